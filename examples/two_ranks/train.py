"""Softmax regression on generated points, trained by one process or by several that average their gradients.

    train.py train --parameters_file=FILE --model_dir=DIRECTORY

Standard library only. The variables are those of torchrun and its like: RANK and WORLD_SIZE say which process this is of how
many, MASTER_ADDR and MASTER_PORT where the first one listens. Without them it is alone. However many there are, the model
is the same.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import socket
import struct
import sys
import time
from array import array

CLASSES, FEATURES, POINTS = 3, 8, 1200
PATIENCE = 60.0  # seconds that a process waits for another one


class Alone:
    """The only process: its sums are everybody's."""

    rank, size = 0, 1

    def total(self, values: list[float]) -> list[float]:
        return values

    def everyone(self, text: str) -> list[str]:
        """What each process says, in the order of ranks; the first one alone needs it."""
        return [text]


class Team:
    """Several processes. All send their numbers to the first one, which sends the sums back."""

    def __init__(self, rank: int, size: int, address: tuple[str, int]) -> None:
        self.rank, self.size = rank, size
        self._others = _gather(size, address[1]) if rank == 0 else [_join(rank, address)]

    def total(self, values: list[float]) -> list[float]:
        if self.rank:
            _send(self._others[0], array("d", values).tobytes())
            return list(_numbers(_receive(self._others[0])))
        for other in self._others:
            values = [mine + theirs for mine, theirs in zip(values, _numbers(_receive(other)))]
        for other in self._others:
            _send(other, array("d", values).tobytes())
        return values

    def everyone(self, text: str) -> list[str]:
        if self.rank:
            _send(self._others[0], text.encode())
            return [text]
        return [text, *(_receive(other).decode() for other in self._others)]


def _gather(size: int, port: int) -> list[socket.socket]:
    """The connections of the others, in the order of their ranks."""
    found: dict[int, socket.socket] = {}
    with socket.create_server(("", port), backlog=size) as listening:
        while len(found) < size - 1:
            listening.settimeout(PATIENCE)
            connection, _ = listening.accept()
            connection.settimeout(PATIENCE)
            found[int(_receive(connection))] = connection
    return [found[rank] for rank in sorted(found)]


def _join(rank: int, address: tuple[str, int]) -> socket.socket:
    """The connection to the first one, which may not listen yet."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection = socket.create_connection(address, PATIENCE)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            _send(connection, str(rank).encode())
            return connection


def _send(connection: socket.socket, content: bytes) -> None:
    connection.sendall(struct.pack("!I", len(content)) + content)


def _receive(connection: socket.socket) -> bytes:
    return _exactly(connection, struct.unpack("!I", _exactly(connection, 4))[0])


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise ConnectionError("another process has ended")
        content += part
    return content


def _numbers(content: bytes) -> array[float]:
    numbers = array("d")
    numbers.frombytes(content)
    return numbers


def find_team() -> Alone | Team:
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Alone()
    return Team(int(os.environ["RANK"]), size, (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))


# --- the training ------------------------------------------------------------------------------------------------------


def points(seed: int) -> list[tuple[list[float], int]]:
    """Three clouds of points, that overlap a little, and which of them each is of."""
    chance = random.Random(seed)
    centres = [[chance.gauss(0, 1.2) for _ in range(FEATURES)] for _ in range(CLASSES)]
    found = []
    for number in range(POINTS):
        label = number % CLASSES
        found.append(([chance.gauss(middle, 1) for middle in centres[label]] + [1.0], label))
    return found


def likelihoods(weights: list[float], point: list[float]) -> list[float]:
    """How likely the point is of each class."""
    width = len(point)
    scores = [sum(map(float.__mul__, weights[start:start + width], point)) for start in range(0, len(weights), width)]
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    return [power / sum(powers) for power in powers]


def step(weights: list[float], part: list[tuple[list[float], int]]) -> list[float]:
    """The gradient over these points; then the loss and how many of them are taken for what they are. All are sums."""
    width = FEATURES + 1
    sums, loss, right = [0.0] * len(weights), 0.0, 0
    for point, label in part:
        chances = likelihoods(weights, point)
        loss -= math.log(max(chances[label], 1e-300))
        right += chances.index(max(chances)) == label
        for number, chance in enumerate(chances):
            error = chance - (number == label)
            for at, value in enumerate(point, number * width):
                sums[at] += error * value
    return [*sums, loss, float(right)]


def train(parameters: dict[str, float], model_dir: str) -> None:
    team = find_team()
    everything = points(int(parameters["seed"]))
    mine = everything[team.rank::team.size]
    names = team.everyone(socket.gethostname())
    weights = [0.0] * (CLASSES * (FEATURES + 1))
    loss = accuracy = 0.0
    for epoch in range(1, int(parameters["epochs"]) + 1):
        *gradient, loss, right = team.total(step(weights, mine))
        loss, accuracy = loss / POINTS, right / POINTS
        weights = [weight - parameters["learning_rate"] * slope / POINTS for weight, slope in zip(weights, gradient)]
        if team.rank == 0:
            print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.4f}")
    print(f"rank {team.rank} of {team.size} on {socket.gethostname()}: {len(mine)} points")
    if team.rank == 0:
        write(model_dir, "model.json", {"weights": weights})
        write(model_dir, "metrics.json", {"accuracy": accuracy, "loss": loss, "epochs": int(parameters["epochs"]),
                                          "ranks": team.size, "hosts": sorted(set(names))})


def write(directory: str, name: str, data: dict[str, object]) -> None:
    """The file is there whole or not at all."""
    path = os.path.join(directory, name)
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
        file.write("\n")
    os.replace(f"{path}.part", path)


def read_parameters(path: str) -> dict[str, float]:
    """The file's `name: number` lines."""
    with open(path, encoding="utf-8") as file:
        lines = [line.partition("#")[0].strip() for line in file]
    return {name.strip(): float(value) for name, _, value in (line.partition(":") for line in lines if line)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["train"])
    parser.add_argument("--parameters_file", required=True)
    parser.add_argument("--model_dir", required=True)
    words = parser.parse_args()
    try:
        train(read_parameters(words.parameters_file), words.model_dir)
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"error: {error!r}")


if __name__ == "__main__":
    main()
