from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import yaml

from tests.kubernetes import programs
from tests.kubernetes.cluster import Cluster, running

KINDS_OF_OTHERS = {
    programs.KEDA: ("config/crd/bases", ("keda.sh_scaledobjects", "keda.sh_triggerauthentications")),
    programs.PROMETHEUS_OPERATOR: (
        "example/prometheus-operator-crd",
        ("monitoring.coreos.com_servicemonitors", "monitoring.coreos.com_prometheusrules"),
    ),
}
"""Where KEDA and Prometheus' operator keep the definitions of their kinds, in their own modules."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A cluster that knows the kinds of KEDA and of Prometheus' operator."""
    files = [
        programs.module_folder(*module) / folder / f"{name}.yaml"
        for module, (folder, names) in KINDS_OF_OTHERS.items()
        for name in names
    ]
    async with running(tmp_path_factory.mktemp("kubernetes")) as cluster:
        for file in files:
            for definition in yaml.safe_load_all(file.read_text()):
                await cluster.define(definition)
        yield cluster
