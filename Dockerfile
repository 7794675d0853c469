# The page on port 7860: docker build -t vcvae . && docker run --rm -p 127.0.0.1:7860:7860 vcvae
FROM python:3.12-slim

# Without CUDA, which a CPU does not need and which takes gigabytes.
RUN pip install --no-cache-dir torch torchaudio --index-url https://download.pytorch.org/whl/cpu

COPY pyproject.toml README.md LICENSE /src/
COPY vcvae /src/vcvae
RUN pip install --no-cache-dir '/src[web]' && rm -r /src

RUN useradd --create-home vcvae
USER vcvae
ENV GRADIO_ANALYTICS_ENABLED=False HF_HUB_OFFLINE=1
EXPOSE 7860
HEALTHCHECK --interval=30s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/')"]
CMD ["vcvae", "serve", "--host", "0.0.0.0"]
