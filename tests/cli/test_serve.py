import socket
import tempfile
import threading
from pathlib import Path

import pytest


@pytest.mark.parametrize("auth", ["ann", ":x", "ann:"])
def test_serve_refuses_a_name_without_a_password(vcvae, auth):
    code, _, error = vcvae("serve", "--auth", auth)
    assert code == 2
    assert "NAME:PASSWORD" in error


@pytest.mark.parametrize("path", ["voices", "/", "/voices/", "/a b", "\n", "/" * 9000, "/ä"])
def test_serve_refuses_a_root_path_that_is_none(vcvae, path):
    code, _, error = vcvae("serve", "--root-path", path)
    assert (code, error.count("\n"), error.startswith("vcvae: --root-path")) == (2, 1, True)


@pytest.mark.parametrize("host", ["999.1.1.1", "host.invalid", "", "a" * 300, "::1::", "ä.invalid"])
def test_serve_refuses_an_address_that_is_none(vcvae, host):
    code, _, error = vcvae("serve", "--host", host, "--port", 7998)
    assert (code, error.count("\n"), error.startswith("vcvae: --host")) == (2, 1, True)


def test_serve_refuses_a_port_that_is_taken(vcvae):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, error = vcvae("serve", "--port", port)
    assert (code, f"--port {port}" in error) == (2, True)


@pytest.mark.slow
def test_serve_builds_the_page_with_its_options(vcvae, tiny_model, monkeypatch):
    pytest.importorskip("gradio", reason="the extra web is not installed")
    import uvicorn

    started = {}
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: started.update(options, app=app))
    code, out, _ = vcvae("serve", "--model", tiny_model, "--port", "7999", "--auth", "ann:secret", "--device", "cpu")
    assert code == 0
    assert "http://127.0.0.1:7999" in out
    assert (started["host"], started["port"]) == ("127.0.0.1", 7999)
    assert any(route.path == "/api/convert" for route in started["app"].routes if hasattr(route, "path"))


@pytest.mark.parametrize("is_converting", [True, False])
def test_serve_ends_without_waiting_for_conversions_and_leaves_no_files(monkeypatch, tmp_path, is_converting):
    from vcvae.cli import serve

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(serve, "SHORT", 0.01)
    ended, codes = threading.Event(), []
    monkeypatch.setattr("os._exit", codes.append)
    with serve._not_waiting_for_threads(), serve._own_temporary_files():
        Path(tempfile.gettempdir(), "upload").write_bytes(b"1")
        thread = threading.Thread(target=ended.wait if is_converting else int)
        thread.start()
    ended.set()
    thread.join()
    assert codes == ([0] if is_converting else [])
    assert not list(tmp_path.iterdir())
