# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
RUN cargo build --release --locked --bin brevdue \
 && install -d -o 65532 -g 65532 -m 0700 /rootfs/var/lib/brevdue \
 && install -d -o 65532 -g 65532 -m 0750 /rootfs/run/brevdue

# libc, CA certificates, a user without rights; no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build --chown=65532:65532 /rootfs/ /
COPY --from=build /build/target/release/brevdue /usr/bin/brevdue
USER 65532:65532
VOLUME ["/var/lib/brevdue"]
EXPOSE 8443
# SIGTERM drains.
STOPSIGNAL SIGTERM
# Asks the admin socket of the configuration; fails when nobody answers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/bin/brevdue", "status", "--ready"]
ENTRYPOINT ["/usr/bin/brevdue"]
CMD ["run"]
