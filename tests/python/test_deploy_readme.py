"""What deploy/README.md tells an operator to type, typed."""

import re
import subprocess
import sys
from pathlib import Path

import kdn
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "e2e"))
import yaml  # noqa: E402
from daemon import Daemon, kdnctl  # noqa: E402

TEXT = (ROOT / "deploy" / "README.md").read_text()


def block(language, word):
    """The one block in that language that holds the word."""
    (found,) = [body for body in re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL) if word in body]
    return found


@pytest.mark.slow
def test_certificate_and_token_made_as_the_readme_says_let_clients_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["bash", "-euc", block("sh", "openssl req")], check=True, capture_output=True)
    settings = yaml.safe_load(block("yaml", "auth:").replace("/run/credentials/kdnd.service/", f"{tmp_path}/"))
    flat = {f"{section}.{key}": value for section, keys in settings.items() for key, value in keys.items()}
    with Daemon(tmp_path / "data", **{**flat, "server.listen": "127.0.0.1:0"}) as daemon:
        endpoint = daemon.endpoint.replace("127.0.0.1", "localhost")
        command = block("sh", "kdnctl --endpoint").split()
        assert command[:2] == ["kdnctl", "--endpoint"]
        assert "SERVING" in kdnctl(endpoint, *command[3:]).stdout
        with kdn.Client(endpoint, token=open("token").read(), tls=kdn.Tls(ca_file="cert.pem"), dead_after=20) as client:
            assert client.admin("Status")
        kdnctl(endpoint, "--tls-ca", "cert.pem", "chunk", "ls", check=5)


def test_settings_in_the_readme_are_those_of_the_daemon():
    example = yaml.safe_load((ROOT / "config" / "kdnd.example.yaml").read_text())
    for section, keys in yaml.safe_load(block("yaml", "auth:")).items():
        assert set(keys) <= set(example[section])


def test_unit_passes_credentials_for_every_file_the_readme_names():
    named = set(re.findall(r"/run/credentials/kdnd\.service/(\S+?)[,}]", block("yaml", "auth:")))
    assert named == set(re.findall(r"LoadCredential=(\S+?):", block("ini", "LoadCredential")))
