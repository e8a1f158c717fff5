"""The manifests are what Kubernetes takes, and set what the server knows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hypersend_server.settings import SETTINGS, Settings
from tests.process import REPOSITORY

MANIFESTS = sorted((REPOSITORY / "config" / "kubernetes").glob("*.yaml"))
SECRETS = {"SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz", "MONGODB_URI": "mongodb+srv://u:p@host.example/x",
           "REDIS_URL": "rediss://host.example", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def pods(path: Path) -> list[dict[str, Any]]:
    specs = [document.get("spec", {}) for document in documents(path)]
    return [spec["template"]["spec"] for spec in specs if "template" in spec]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_schemas_of_kubernetes_take_it(path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "kubernetes_validate", "--strict", str(path)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed") == len(documents(path))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_its_settings_are_ours_and_right(path: Path) -> None:
    (values,) = [document["data"] for document in documents(path) if document["kind"] == "ConfigMap"]
    assert values.keys() <= {setting.name for setting in SETTINGS}
    named = set(re.findall(r"--from-literal=(\w+)", path.read_text()))
    settings = Settings.from_env({**values, **{name: SECRETS[name] for name in named}})
    assert (settings.storage_backend == "s3") == bool(settings.mongodb_uri)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_its_containers_have_no_more_rights_than_they_need(path: Path) -> None:
    (pod,) = pods(path)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["terminationGracePeriodSeconds"] > 10, "what is under way gets its time to end"
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"]["memory"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
