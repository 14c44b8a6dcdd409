"""`docker compose up --wait`: the whole system from nothing, what it is allowed, and what it survives."""

import functools
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.containers import docker
from tests.containers.system import System, described
from tools.devstack.stack_settings import CHECKOUT, DEFAULT_PORTS

OURS = ("service", "bridge", "console", "sandbox", "storefront", "balancer")
PAGES = {"STOREFRONT_PORT": "/health", "CONSOLE_PORT": "/actuator/health/readiness"}
"""What says that those which no purchase needs serve people."""
README = (CHECKOUT / "README.md").read_text()
LOOKS = """
import asyncio, os, pathlib, aio_pika
from contracts.commands import CommandType
from runtime.dead_letters.queues import opened

async def main():
    url = pathlib.Path(os.environ["AMQP_URL_FILE"]).read_text()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        commands = await channel.get_exchange("payments.commands", ensure=False)
        user, type = "payment-console", CommandType.CREATE_CHECKOUT
        await commands.publish(aio_pika.Message(b"{}", message_id="m", type=type, user_id=user), type)
    seen = 0
    while seen < 30:
        async with opened(url) as queues:
            letters = [letter async for letter in queues.letters(CommandType)]
            assert letters or not seen, f"gone after {seen} looks"
            seen += bool(letters)
            if seen == 30:
                await queues.remove(letters[0])

asyncio.run(main())
"""
"""Dead-letters a command, looks at it thirty times and drops it."""


def test_the_images_of_others_are_among_those_that_are_tested() -> None:
    services = described()["services"]
    for name, tested in (("postgres", docker.POSTGRES), ("rabbitmq", docker.RABBITMQ)):
        assert services[name]["image"].rpartition(":-")[2].rstrip("}") in tested


def test_one_service_builds_each_of_our_images() -> None:
    """Several at once make several, of which the tag names one: compose would replace the containers of the others."""
    ours = [each for each in described()["services"].values() if each["image"].startswith("bookticket/")]
    built = [each["image"] for each in ours if "build" in each]
    assert sorted(built) == sorted({each["image"] for each in ours})
    # What cannot be pulled is not looked for in a registry; with `--no-build` it is missing at once.
    assert all("build" in each or each["pull_policy"] == "never" for each in ours)


def test_stripe_takes_the_sandboxs_place_with_a_key_of_ones_own(tmp_path: Path) -> None:
    files = (
        "compose",
        "--env-file",
        str(tmp_path / "env"),
        "-f",
        "docker-compose.yml",
        "-f",
        "deploy/compose/stripe.yml",
    )
    (tmp_path / "env").write_text("")
    without = docker.docker(*files, "config")
    assert without.returncode != 0
    assert "STRIPE_API_KEY is missing a value: a secret or restricted test key of Stripe" in without.stderr
    (tmp_path / "env").write_text("STRIPE_API_KEY=rk_test_ofSomebody\n")
    services = json.loads(docker.said(*files, "config", "--format", "json"))["services"]
    assert "sandbox" not in services
    for name in ("check", "service"):
        settings = services[name]["environment"]
        assert (settings["STRIPE_API_KEY"], settings["STRIPE_API_KEY_FILE"]) == ("rk_test_ofSomebody", "")
        assert settings["STRIPE_API_BASE"] == "https://api.stripe.com"


def test_the_readmes_lines_buy_a_ticket(system: System, tmp_path: Path) -> None:
    script = re.search(r"test_snippets\.py\. -->\n```bash\n(.*?)```", README, re.DOTALL)
    assert script is not None
    lines = script[1].replace("/tmp/checkout.json", str(tmp_path / "checkout.json"))  # noqa: S108
    for name, port in DEFAULT_PORTS.items():
        lines = lines.replace(f"127.0.0.1:{port}", urlsplit(system.url(name)).netloc)
    command = ["bash", "-c", f"set -eu\n{lines}"]
    # Not in the checkout, where another stack may have left its addresses.
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert re.findall(r'"(?:status|paymentStatus)": ?"(\w+)"', ran.stdout) == [
        "pending",
        "PENDING",
        "COMPLETED",
        "COMPLETED",
    ]


def test_the_shop_sends_a_payer_to_a_page_that_a_browser_reaches(system: System) -> None:
    with httpx.Client(base_url=system.url("STOREFRONT_PORT"), trust_env=False, timeout=60) as shop:
        sent = shop.post("/checkout", data={"amount": "449.97"})
    assert sent.status_code == 303
    assert sent.headers["location"].startswith(system.url("SANDBOX_PORT"))
    assert httpx.get(sent.headers["location"], trust_env=False).status_code == 200


def test_our_containers_may_do_nothing(system: System) -> None:
    for name in OURS:
        for container in system.inspected(name):
            host = container["HostConfig"]
            assert container["Config"]["User"] == "10001:10001"
            assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
            assert "no-new-privileges:true" in host["SecurityOpt"]
            published = [each["HostIp"] for ports in host["PortBindings"].values() for each in ports]
            assert set(published) <= {"127.0.0.1"}


def test_users_and_roles_have_what_they_need_and_no_password_is_in_the_file(system: System) -> None:
    listed = system.do("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "list_users", "--no-table-headers")
    assert {line.split()[0] for line in listed.splitlines()} == {
        "payment-bridge",
        "payment-console",
        "payment-service",
        "payment-subscriber",
        "payment-operator",
    }
    sql = (
        "SELECT string_agg(rolname || ':' || (rolsuper OR rolcreaterole OR rolcreatedb), ' ' ORDER BY rolname) "
        "FROM pg_roles WHERE rolcanlogin AND rolname <> 'postgres'"
    )
    assert system.sql(sql) == "payment_console:false payment_owner:false payment_service:false"
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert system.sql(owners) == "payment_owner"
    assert "could change the record" not in system.do("logs", "service")
    text = (CHECKOUT / "docker-compose.yml").read_text()
    assert not re.search(r"password\s*:|://[^/\s]*:[^/\s]*@|[sr]k_(test|live)_", text, re.IGNORECASE)


@pytest.mark.parametrize("service", ["service", "bridge", "balancer", "storefront", "console", "rabbitmq", "postgres"])
def test_after_kill_9_it_serves_again_and_nothing_is_lost(system: System, service: str) -> None:
    paid = system.buy()
    waiting = system.create(booking=time.time_ns() // 1000)
    system.kill(service)
    time.sleep(0.5)  # so that the first answer is not of before
    seconds = system.until(system.buy)
    sys.stdout.write(f"{service} killed: a ticket bought {seconds:.1f} s after\n")
    for port, path in PAGES.items():
        system.until(functools.partial(serves, f"{system.url(port)}{path}"))
    assert system.status(paid) == "COMPLETED"
    system.pay(waiting)
    system.until(lambda: system.status(waiting) == "COMPLETED")


def serves(page: str) -> bool:
    return httpx.get(page, trust_env=False, timeout=30).status_code == 200


def test_after_kill_9_of_the_sandbox_payments_go_on(system: System) -> None:
    """It keeps its sessions in memory; what was paid is in our database."""
    paid = system.buy()
    system.kill("sandbox")
    system.until(system.buy)
    assert system.status(paid) == "COMPLETED"


def test_a_command_under_way_is_done_before_the_service_ends(system: System) -> None:
    """The service has 15 seconds, after which it would be killed and its exit status 137."""
    control = f"{system.url('SANDBOX_PORT')}/_sandbox/config"
    httpx.post(control, json={"latency_ms": 4000}, trust_env=False)
    answers: list[httpx.Response] = []
    booking = time.time_ns() // 1000
    body = {"bookingId": booking, "userId": 7, "amount": 12.5}
    asking = threading.Thread(target=lambda: answers.append(system.call("POST", "/checkout/create", json=body)))
    asking.start()
    begun = f"SELECT count(*) FROM payments WHERE booking_id = {booking} AND session_id IS NULL"  # noqa: S608
    system.until(lambda: system.sql(begun) == "1")  # committed, and at Stripe now
    system.do("stop", "--timeout", "15", "service")
    asking.join()
    httpx.post(control, json={"latency_ms": 0}, trust_env=False)
    [container] = system.inspected("service")
    assert container["State"]["ExitCode"] == 0
    assert (answers[0].status_code, answers[0].json().get("status")) == (200, "pending"), answers[0].text
    system.do("start", "service")
    system.until(system.buy)


def test_scaled_it_serves_at_the_same_port(system: System) -> None:
    system.do("up", "--wait", "--no-build", "--scale", "service=3", "--scale", "bridge=2")
    assert (len(system.inspected("service")), len(system.inspected("bridge"))) == (3, 2)
    for _ in range(6):
        system.buy()
    system.do("up", "--wait", "--no-build", "--scale", "service=1", "--scale", "bridge=1")
    system.buy()


def test_down_and_up_keep_the_payments(system: System) -> None:
    paid = system.buy()
    waiting = system.create(booking=time.time_ns() // 1000)
    system.do("down")
    assert "ps" not in system.left()
    system.do("up", "--wait", "--no-build")
    assert system.status(paid) == "COMPLETED"
    assert system.status(waiting) == "PENDING"
    system.buy()


def test_one_password_is_renewed_while_it_runs(system: System) -> None:
    """RabbitMQ learns the new one, then the bridge; a service that is connected stays so."""
    paid = system.buy()
    system.do("run", "--rm", "--no-deps", "secrets", "tools.compose.passwords", "--renew", "payment-bridge")
    import_definitions = ("rabbitmqctl", "--quiet", "import_definitions", "/run/secrets/definitions.json")
    system.do("exec", "-T", "rabbitmq", *import_definitions)
    system.do("restart", "bridge")
    system.until(system.buy)
    assert system.status(paid) == "COMPLETED"


def test_a_dead_letter_stays_however_often_it_is_looked_at(system: System) -> None:
    """RabbitMQ 4 deletes what came back to a queue twenty times, unless a policy says that it stays."""
    system.do("exec", "-T", "console", "python", "-c", LOOKS)


def test_a_tag_that_is_not_there_is_said_and_nothing_is_built_in_its_place(tmp_path: Path) -> None:
    system = System.of(tmp_path, tag="no-such-version")
    try:
        for command in (("up", "--wait"), ("up", "--no-deps", "migrate")):
            ended = system.run(command[0], "--no-build", *command[1:])
            assert ended.returncode != 0
            assert re.search(r"no such image: bookticket/payment-\w+:no-such-version", ended.stderr, re.IGNORECASE)
        assert docker.said("image", "ls", "--quiet", "--filter", "reference=*/*:no-such-version") == ""
    finally:
        system.do("down", "--volumes")
    assert system.left() == {}


@pytest.mark.parametrize(
    ("check", "wrong", "waiting"),
    [
        ("check", {"LOG_LEVEL": "loud", "PAYMENT_CURRENCY": "rupees"}, ("service", "bridge", "console")),
        ("check-console", {"CONSOLE_LOGS_URL": "logs", "CONSOLE_TRACE_URL": "traces"}, ("console",)),
    ],
)
def test_wrong_settings_end_the_start_with_all_their_names(
    images: dict[str, str], tmp_path: Path, check: str, wrong: dict[str, str], waiting: tuple[str, ...]
) -> None:
    """They are told once: what would be restarted again and again with them is not even started."""
    system = System.of(tmp_path, tag=images["service"].rpartition(":")[2], **wrong)
    try:
        ended = system.run("up", "--wait", "--no-build")
        assert ended.returncode != 0
        assert re.search(rf'service "{check}" didn.t complete successfully: exit 2', ended.stderr), ended.stderr
        [checked] = system.inspected(check)
        told = docker.docker("logs", checked["Id"]).stderr.splitlines()
        assert sorted(line.partition(" is not valid;")[0] for line in told[1:]) == sorted(wrong)
        for name in waiting:
            [container] = system.inspected(name)
            assert (container["State"]["Status"], container["RestartCount"]) == ("created", 0)
    finally:
        system.do("down", "--volumes")
    assert system.left() == {}
