FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=""
ARG COMMIT=""
RUN make root ROOT=/out VERSION="${VERSION}" COMMIT="${COMMIT}"

# make release builds the same image without Docker, from the lines below this one.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/metergate /metergate
COPY --from=build /out/doc /usr/share/doc/metergate
COPY --from=build /out/etc /etc/metergate
# A new volume takes the owner of the folder that it is mounted on.
COPY --from=build --chown=65532:65532 /out/data /var/lib/metergate
ENV REDIS_URL=embedded:/var/lib/metergate
VOLUME /var/lib/metergate
# As a number, so that Kubernetes sees that it is not root.
USER 65532:65532
EXPOSE 8080
# With another file than the one below, change both.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/metergate", "healthcheck", "-config", "/etc/metergate/gateway.yaml"]
ENTRYPOINT ["/metergate"]
CMD ["serve", "-config", "/etc/metergate/gateway.yaml"]
