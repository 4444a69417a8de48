import socket

from local_stack.ports import free_port, is_free


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        assert not is_free(port)
    assert is_free(port)


def test_a_port_held_on_every_address_is_not_free() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104 - never accepts
        assert not is_free(int(server.getsockname()[1]))


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    assert all(20_000 <= port < 32_000 for port in ports)
