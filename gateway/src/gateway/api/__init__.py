"""The public API, parted by domain; `gateway.api.app` puts it together."""
