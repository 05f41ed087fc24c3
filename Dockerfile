# syntax=docker/dockerfile:1
# An assistant served from one recipe. No model and no data of yours is in the image: mount recipe and documents at
# /assistant, and a volume at /assistant/work for indexes, runs, keys, uploads and jobs.
#
#   docker build -t ragtune .
#   docker run --rm -p 127.0.0.1:8000:8000 -v ragtune-work:/assistant/work ragtune
#
# PyTorch is the CPU's; for a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=server,postgres,openai,ctranslate2,openvino,telemetry
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/ragtune
ENV PATH=/opt/ragtune/bin:$PATH
WORKDIR /source
COPY scripts/constraints.txt scripts/constraints.txt
RUN pip install --index-url "${TORCH_INDEX}" --constraint scripts/constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY ragtune ragtune
COPY data data
RUN pip install --constraint scripts/constraints.txt ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
# The OpenMP that bitsandbytes is linked against.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin ragtune \
    && install --directory --owner ragtune --group ragtune /assistant /assistant/work
COPY --from=build /opt/ragtune /opt/ragtune
COPY --chmod=755 scripts/container/start /usr/local/bin/start
ENV PATH=/opt/ragtune/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/assistant/work/cache RAGTUNE_CACHE=/assistant/work/cache/ragtune \
    MPLCONFIGDIR=/tmp/matplotlib \
    RAGTUNE_RECIPE=demo RAGTUNE_PORT=8000
USER 10001
WORKDIR /assistant
VOLUME /assistant/work
EXPOSE 8000
# Longer than server.drain_s, so that `docker stop --time 40` lets answers finish; the first start builds an index.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=20m --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ[\"RAGTUNE_PORT\"]}/ready', timeout=4)"]
ENTRYPOINT ["start"]
CMD ["serve"]
