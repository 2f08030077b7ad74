# The image: each step is a script of deploy/build/, which tests/deploy/test_image.py runs in an empty folder.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# `--build-arg COMPILE=off` saves three minutes, and a compiler; a call then takes up to twice the processor time.
ARG COMPILE=on
RUN if [ "$COMPILE" = on ]; then apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev; fi
WORKDIR /app
COPY . .
RUN deploy/build/install.sh /opt/gatehouse
RUN if [ "$COMPILE" = on ]; then deploy/build/compile.sh /opt/gatehouse; fi
RUN deploy/build/static.sh /opt/gatehouse
RUN deploy/build/trim.sh /opt/gatehouse
RUN mkdir -m 0700 /var/lib/gatehouse

FROM ${PYTHON_IMAGE}
WORKDIR /app
COPY --from=build /opt/gatehouse /opt/gatehouse
COPY --from=build /app /app
# All that it writes is here and in /tmp, so the rest of the file system can be read-only.
COPY --from=build --chown=10001:10001 /var/lib/gatehouse /var/lib/gatehouse
ENV PATH=/opt/gatehouse/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEHOUSE_VAR=/var/lib/gatehouse \
    HOST=0.0.0.0
USER 10001:10001
VOLUME /var/lib/gatehouse
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "deploy/build/healthcheck.py"]
ENTRYPOINT ["deploy/build/entrypoint.sh"]
