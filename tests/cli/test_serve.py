import pytest


@pytest.mark.parametrize("auth", ["ann", ":x", "ann:"])
def test_serve_refuses_a_name_without_a_password(vcvae, auth):
    code, _, error = vcvae("serve", "--auth", auth)
    assert code == 2
    assert "NAME:PASSWORD" in error


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
