FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=""
ARG COMMIT=""
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT} -X metergate/proxy/browser.version=${VERSION}" -o /out/metergate ./cmd/metergate
# The shipped gateway.yaml keeps its data in ./data, relative to itself. In the image that
# is a link to the volume.
RUN mkdir -p /out/data /out/etc && install -m 644 gateway.yaml /out/etc/ && ln -s /var/lib/metergate /out/etc/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/metergate /metergate
COPY LICENSE THIRD_PARTY_NOTICES /usr/share/doc/metergate/
COPY --from=build /out/etc /etc/metergate
# A new volume takes the owner of the folder that it is mounted on.
COPY --from=build --chown=nonroot:nonroot /out/data /var/lib/metergate
ENV REDIS_URL=embedded:/var/lib/metergate
VOLUME /var/lib/metergate
# As a number, so that Kubernetes sees that it is not root.
USER 65532:65532
EXPOSE 8080
# With another file than the one below, change both.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/metergate", "healthcheck", "-config", "/etc/metergate/gateway.yaml"]
ENTRYPOINT ["/metergate"]
CMD ["serve", "-config", "/etc/metergate/gateway.yaml"]
