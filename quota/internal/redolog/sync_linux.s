// Functions without a body, as in sync_linux.go, are only allowed beside a file like this one.
