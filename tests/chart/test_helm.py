"""Where Helm comes from: tools/helm.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools import helm


@pytest.fixture(autouse=True)
def no_helm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A machine with neither Helm nor Go."""
    monkeypatch.delenv("HELM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(helm, "BUILT", tmp_path / "built")


def test_helm_of_the_environment_comes_before_that_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    on_path, named = _program(tmp_path / "bin" / "helm", "v3.19.0"), _program(tmp_path / "mine", "v4.0.1+g1")
    assert helm.find_helm() == on_path
    monkeypatch.setenv("HELM", str(named))
    assert helm.find_helm() == named
    assert helm.find_helm(3) == on_path


def test_a_helm_that_is_no_program_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HELM", "/nowhere/helm")
    with pytest.raises(helm.HelmMissing, match="HELM=/nowhere/helm is no program"):
        helm.find_helm()


def test_without_helm_and_go_the_way_out_is_told():
    with pytest.raises(helm.HelmMissing, match="no Helm 4: install Helm"):
        helm.provide_helm()


def test_go_builds_the_major_that_is_wanted(tmp_path: Path):
    _program(tmp_path / "bin" / "helm", "v3.19.0")
    go = _program(tmp_path / "bin" / "go", "")
    go.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\n/bin/cp "$0" "$2"\necho "$3"')
    assert helm.provide_helm(4) == tmp_path / "built" / "helm4"


def test_those_who_want_it_at_the_same_time_build_it_once(tmp_path: Path):
    builds = tmp_path / "builds"
    go = _program(tmp_path / "bin" / "go", "")
    go.write_text(f'#!/bin/sh\necho one >> {builds}\nwhile [ "$1" != -o ]; do shift; done\n/bin/cp "$0" "$2"')
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(helm.build_helm, [4, 4, 4])) == {tmp_path / "built" / "helm4"}
    assert builds.read_text() == "one\n"


def test_a_build_that_fails_says_why(tmp_path: Path):
    _program(tmp_path / "bin" / "go", "").write_text("#!/bin/sh\necho no network >&2\nexit 1")
    with pytest.raises(helm.HelmMissing, match="Helm 3 could not be built:\nno network"):
        helm.provide_helm(3)


def _program(path: Path, version: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}")
    path.chmod(0o755)
    return path
