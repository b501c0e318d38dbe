# docker build -t virtex . && docker run --rm virtex                             runs the demo
# docker run --name demo virtex && docker cp demo:/virtex/outputs out            keeps its results
# A folder of the host mounted at /virtex/outputs would get links into DVC's cache, which stays inside.
# Photographs at full size need more shared memory for the loader's workers: --shm-size 8g.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /virtex
# The pins first: code changes do not install everything again.
COPY pyproject.toml constraints.txt README.md Makefile ./
COPY components/__init__.py components/
COPY pipelines/__init__.py pipelines/
ENV PIP_NO_CACHE_DIR=1
RUN make setup PYTHON=python3
COPY . .
# .git is part of the context: DVC works inside a repository and runs are tagged with the commit.
RUN touch .venv/.installed && git config --global --add safe.directory /virtex

CMD ["make", "demo"]
