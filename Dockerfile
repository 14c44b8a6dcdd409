# The images: targets service, bridge, console and tools (`make images`). Each holds its own part only: the bridge has no
# database driver and no Stripe SDK, the console no Stripe SDK and of the service only what reads the record.

# The newest Python that every dependency has been tried with.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_DEFAULT_GROUPS=1 \
    UV_PROJECT_ENVIRONMENT=/app UNUSED='.*/(tests|sqlalchemy/testing)/.*|.*\.(c|h|hpp|pyx|pxd|pxi|pyi)'
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --quiet --disable-pip-version-check --root-user-action=ignore uv==0.13.9 \
    && apt-get -qq update && apt-get -qq install --no-install-recommends binutils > /dev/null && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The dependencies come first, for they change seldom.
COPY pyproject.toml uv.lock ./

# --- built -----------------------------------------------------------------------------------------------------------
# The project itself is installed without a cache: uv knows its wheel by pyproject.toml alone, and would put the wheel of
# one part into the image of another. What no process imports goes: sources in C, stubs, the tests of libraries, the symbols
# of a debugger.

FROM uv AS service-build
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-install-project --extra service --extra otel
COPY README.md ./
COPY contracts contracts
COPY runtime runtime
COPY service service
RUN uv sync --frozen --no-editable --no-cache --extra service --extra otel \
    && rm /app/bin/payment-bridge /app/bin/payment-console \
    && find /app/lib -regextype posix-extended -type f -regex "$UNUSED" -delete \
    && find /app/lib -name '*.so' -exec strip --strip-unneeded {} +

FROM uv AS bridge-build
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-install-project --extra bridge --extra otel
COPY README.md ./
COPY contracts contracts
COPY runtime runtime
COPY bridge bridge
RUN uv sync --frozen --no-editable --no-cache --extra bridge --extra otel \
    && rm /app/bin/payment-service /app/bin/payment-console \
    && find /app/lib -regextype posix-extended -type f -regex "$UNUSED" -delete \
    && find /app/lib -name '*.so' -exec strip --strip-unneeded {} +

FROM uv AS console-build
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-install-project --extra console
COPY README.md ./
COPY contracts contracts
COPY runtime runtime
COPY service/__init__.py service/failpoints.py service/
COPY service/application service/application
COPY service/domain service/domain
COPY service/ratelimit service/ratelimit
COPY service/adapters/__init__.py service/adapters/
COPY service/adapters/postgres service/adapters/postgres
COPY console console
RUN uv sync --frozen --no-editable --no-cache --extra console && rm /app/bin/payment-service /app/bin/payment-bridge \
    && find /app/lib -regextype posix-extended -type f -regex "$UNUSED" -delete \
    && find /app/lib -name '*.so' -exec strip --strip-unneeded {} +

FROM uv AS tools-build
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-install-project --group tools
COPY runtime /app/packages/runtime
COPY tools/__init__.py /app/packages/tools/
COPY tools/sandbox /app/packages/tools/sandbox
COPY tools/storefront /app/packages/tools/storefront
COPY tools/compose /app/packages/tools/compose
RUN python -m compileall -q /app/packages

# --- run -------------------------------------------------------------------------------------------------------------

FROM python:${PYTHON}-slim AS runtime
# A number, not a name, so that Kubernetes can see that it is not root. Nothing is written anywhere: the file system may
# be read-only, and the user may be any other.
ENV PATH=/app/bin:$PATH HOME=/app PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM

FROM runtime AS service
COPY --from=service-build /app /app
# The image of Python has no bytecode of the standard library: as root, an import leaves that of the modules in use.
RUN python -c "import alembic.command, service.cli.ending, service.cli.run"
ENV SERVICE_HOST=0.0.0.0 SERVICE_PORT=8086 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8086
USER 10001:10001
ENTRYPOINT ["payment-service"]
CMD ["run"]
# Whether it is alive, as the orchestrator restarts what is not. Whether it is ready is another page.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s \
    CMD ["python", "-m", "runtime.probe", "SERVICE_PORT", "/actuator/health/liveness"]
ARG GIT_COMMIT=""
ARG VERSION=""
ENV GIT_COMMIT=$GIT_COMMIT
LABEL org.opencontainers.image.title="payment-service" \
    org.opencontainers.image.description="BookTicket's payment service: Stripe Checkout behind RabbitMQ" \
    org.opencontainers.image.version=$VERSION org.opencontainers.image.revision=$GIT_COMMIT \
    org.opencontainers.image.licenses="MIT"

FROM runtime AS bridge
COPY --from=bridge-build /app /app
RUN python -c "import bridge.serve"
ENV BRIDGE_HOST=0.0.0.0 BRIDGE_PORT=8085 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8085
USER 10001:10001
ENTRYPOINT ["payment-bridge"]
CMD ["run"]
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s \
    CMD ["python", "-m", "runtime.probe", "BRIDGE_PORT", "/actuator/health/liveness"]
ARG GIT_COMMIT=""
ARG VERSION=""
ENV GIT_COMMIT=$GIT_COMMIT
LABEL org.opencontainers.image.title="payment-bridge" \
    org.opencontainers.image.description="BookTicket's payment service: the HTTP bridge" \
    org.opencontainers.image.version=$VERSION org.opencontainers.image.revision=$GIT_COMMIT \
    org.opencontainers.image.licenses="MIT"

FROM runtime AS console
COPY --from=console-build /app /app
RUN python -c "import console.process"
ENV CONSOLE_HOST=0.0.0.0 CONSOLE_PORT=8087 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8087
USER 10001:10001
ENTRYPOINT ["payment-console"]
CMD ["run"]
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s \
    CMD ["python", "-m", "runtime.probe", "CONSOLE_PORT", "/actuator/health/liveness"]
ARG GIT_COMMIT=""
ARG VERSION=""
ENV GIT_COMMIT=$GIT_COMMIT
LABEL org.opencontainers.image.title="payment-console" \
    org.opencontainers.image.description="BookTicket's payment service: the operators' console" \
    org.opencontainers.image.version=$VERSION org.opencontainers.image.revision=$GIT_COMMIT \
    org.opencontainers.image.licenses="MIT"

# For development and docker-compose.yml, not for production: the stand-in for Stripe, and the shop.
FROM runtime AS tools
COPY --from=tools-build /app /app
ENV PYTHONPATH=/app/packages
# A new volume of docker-compose.yml takes its owner from the folder at its place.
RUN python -c "import tools.sandbox.__main__, tools.storefront.shop" \
    && for each in made postgres rabbitmq migrate service bridge console grafana; do mkdir -p /secrets/$each; done \
    && chown -R 10001:10001 /secrets
ENV SANDBOX_HOST=0.0.0.0 SANDBOX_PORT=12111 STOREFRONT_HOST=0.0.0.0 STOREFRONT_PORT=8084 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8084 12111
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["tools.sandbox"]
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s \
    CMD ["python", "-m", "runtime.probe", "SANDBOX_PORT", "/_sandbox/stats"]
ARG GIT_COMMIT=""
ARG VERSION=""
ENV GIT_COMMIT=$GIT_COMMIT
LABEL org.opencontainers.image.title="payment-tools" \
    org.opencontainers.image.description="BookTicket's payment service: sandbox and web shop, for development" \
    org.opencontainers.image.version=$VERSION org.opencontainers.image.revision=$GIT_COMMIT \
    org.opencontainers.image.licenses="MIT"
