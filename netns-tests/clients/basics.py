"""What users of docker-py do most, by way of DOCKER_HOST; ends with an error at the first thing that is not as it should be."""

import io
import tarfile
import threading

import docker

SHELL = ["/bin/busybox", "sh", "-c"]


def attached(client):
    """It is on the network before its first instruction, and says so."""
    said = client.containers.run("busybox", SHELL + ["ip -4 address show ethwe"], network_mode="none", remove=True)
    assert b"inet 10." in said, said


def ends_as_it_ends(client):
    container = client.containers.run("busybox", SHELL + ["echo out; echo err >&2; exit 7"], detach=True, network_mode="none")
    assert container.wait()["StatusCode"] == 7
    assert container.logs(stdout=True, stderr=False) == b"out\n"
    assert container.logs(stdout=False, stderr=True) == b"err\n"
    container.remove()
    try:
        client.containers.get(container.id)
    except docker.errors.NotFound as error:
        assert error.status_code == 404 and "No such container" in error.explanation, error
    else:
        raise AssertionError("it is still there")


def looks_into(container):
    code, (out, err) = container.exec_run(SHELL + ["echo out; echo err >&2; exit 3"], demux=True)
    assert (code, out, err) == (3, b"out\n", b"err\n"), (code, out, err)
    lines = b"".join(container.exec_run(SHELL + ["for i in 1 2 3; do echo $i; done"], stream=True).output)
    assert lines == b"1\n2\n3\n", lines
    stats = container.stats(stream=False)
    assert stats["id"] == container.id
    assert any("sleep" in process[-1] for process in container.top()["Processes"])


def copies(container):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("note")
        entry.size = 3 << 20
        archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    assert container.put_archive("/", packed.getvalue())
    chunks, status = container.get_archive("/note")
    assert status["size"] == 3 << 20
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        assert archive.extractfile("note").read() == b"x" * (3 << 20)


def to_and_fro(client):
    """A connection that is turned into a stream of both directions."""
    container = client.containers.create("busybox", ["/bin/busybox", "cat"], stdin_open=True, network_mode="none", tty=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"hello\n")
    heard = b""
    while heard.count(b"hello") < 2:
        piece = stream._sock.recv(100)
        assert piece, heard
        heard += piece
    stream.close()
    container.remove(force=True)


def events(client):
    seen = []
    stream = client.events(decode=True, filters={"type": "container", "label": "watched"})
    heard = threading.Event()

    def listen():
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                heard.set()
                return

    threading.Thread(target=listen, daemon=True).start()
    client.containers.run("busybox", ["/bin/busybox", "true"], labels=["watched"], network_mode="none", remove=True)
    assert heard.wait(30), seen
    stream.close()
    assert [action for action in seen if action in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"]


def images(client):
    container = client.containers.run("busybox", SHELL + ["echo x > /x"], detach=True, network_mode="none")
    container.wait()
    image = container.commit("committed", "1")
    container.remove()
    saved = b"".join(image.save(named=True))
    client.images.remove("committed:1")
    loaded = client.images.load(saved)
    assert loaded[0].tags == ["committed:1"], loaded
    said = client.containers.run("committed:1", ["/bin/busybox", "cat", "/x"], network_mode="none", remove=True)
    assert said == b"x\n", said
    dockerfile = io.BytesIO(b"FROM busybox\nRUN [\"/bin/busybox\", \"touch\", \"/built\"]\n")
    built, _ = client.images.build(fileobj=dockerfile, tag="built", rm=True, network_mode="none")
    client.images.remove(built.id)
    client.images.remove("committed:1")


def volumes_and_networks(client):
    volume = client.volumes.create("data")
    assert volume in client.volumes.list()
    volume.remove()
    network = client.networks.create("plain")
    assert network.id in [known.id for known in client.networks.list()]
    network.remove()


def main():
    client = docker.from_env(timeout=60)
    assert client.ping() and client.version()["ApiVersion"]
    attached(client)
    ends_as_it_ends(client)
    staying = client.containers.run("busybox", ["/bin/busybox", "sleep", "600"], detach=True, network_mode="none", name="stays")
    assert [container.name for container in client.containers.list()] == ["stays"]
    looks_into(staying)
    copies(staying)
    staying.restart(timeout=0)
    staying.rename("renamed")
    assert client.containers.get("renamed").status == "running"
    staying.remove(force=True)
    to_and_fro(client)
    events(client)
    images(client)
    volumes_and_networks(client)
    print("all of it works")


main()
