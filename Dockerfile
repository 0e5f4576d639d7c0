# The `lumbar` command in an image: docker build -t lumbar . && docker run --rm -v "$PWD:/data" lumbar predict ...
#
#   --build-arg TORCH=cuda     CUDA's libraries too (6 GiB in place of 2); run it with --gpus all
#   --build-context run=DIR    a finished run of `lumbar classify train` goes into the image, as /opt/classifier
#
# All packages but torch's CPU build come from requirements.lock with their hashes.

# What a build without --build-context run=... copies in its place: nothing.
FROM scratch AS run

FROM python:3.11-slim-bookworm AS build
ARG TORCH=cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY requirements.lock pyproject.toml ./
COPY benchmarks/supply_chain benchmarks/supply_chain
# The pins of the lock that are needed for one purpose each, with their hashes.
RUN python -m venv /opt/tools \
 && sed -n '/^packaging==/,/# via/p' requirements.lock > packaging.lock \
 && /opt/tools/bin/python -m pip install --quiet --require-hashes -r packaging.lock \
 && /opt/tools/bin/python -m benchmarks.supply_chain.subset tools > tools.lock \
 && /opt/tools/bin/python -m benchmarks.supply_chain.subset running-cpu > running-cpu.lock \
 && /opt/tools/bin/python -m benchmarks.supply_chain.subset running > running-cuda.lock \
 && /opt/tools/bin/python -m pip install --quiet --require-hashes -r tools.lock
# torch's CPU build has hashes of its own, which the lock does not know: it is pinned by its version alone.
RUN python -m venv /opt/lumbar \
 && if [ "$TORCH" = cpu ]; then \
      grep '==' running-cuda.lock | sed 's/ \\$//' > versions.txt \
      && /opt/tools/bin/uv pip install --quiet --no-cache --python /opt/lumbar/bin/python --torch-backend cpu \
           -c versions.txt torch torchvision; \
    fi \
 && /opt/lumbar/bin/python -m pip install --quiet --require-hashes --no-deps -r "running-$TORCH.lock"
COPY . .
RUN /opt/tools/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /src/wheel . \
 && /opt/lumbar/bin/python -m pip install --quiet --no-deps /src/wheel/*.whl

FROM python:3.11-slim-bookworm
# OpenCV links against these; their versions are those of the Debian release.
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 lumbar
COPY --from=build /opt/lumbar /opt/lumbar
COPY --from=run . /opt/classifier/
ENV PATH=/opt/lumbar/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /data
# A command, not a service: the check says whether the image can answer at all.
HEALTHCHECK --interval=1h --timeout=30s CMD ["lumbar", "info"]
ENTRYPOINT ["lumbar"]
CMD ["--help"]
