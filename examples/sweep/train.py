"""Softmax regression learns to read handwritten digits, in a second or so: a training to try many parameters with.

    train.py train --parameters_file=FILE --model_dir=DIRECTORY

Standard library only. Writes metrics.json, which `mlcube sweep table` collects, and model.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import random
import sys
from dataclasses import dataclass

DIGITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "digits.csv.gz")
CLASSES, TEST_EVERY = 10, 6  # every sixth image is for the test


class ExampleError(Exception):
    """What is wrong with the parameters, in a sentence."""


@dataclass(frozen=True)
class Parameters:
    learning_rate: float
    epochs: int
    batch_size: int
    weight_decay: float
    seed: int


@dataclass(frozen=True)
class Image:
    pixels: list[float]  # from 0 to 1, and a 1 behind them for the bias
    digit: int


def read_parameters(path: str) -> Parameters:
    """The file's `name: number` lines. Raises ExampleError."""
    found: dict[str, float] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            name, _, text = (part.strip() for part in line.partition("#")[0].partition(":"))
            try:
                if name:
                    found[name] = float(text)
                if not math.isfinite(found[name]):
                    raise ValueError
            except ValueError:
                raise ExampleError(f"{path}:{number}: {name or line.strip()}: not a number: {text!r}") from None
    known = Parameters.__dataclass_fields__
    for name in (*known, *found):
        if name not in found or name not in known:
            raise ExampleError(f"{path}: {name}: {'unknown' if name in found else 'missing'}; known are {', '.join(known)}")
    for name in ("epochs", "batch_size", "seed"):
        if found[name] != int(found[name]):
            raise ExampleError(f"{path}: {name}: must be a whole number, not {found[name]}")
    parameters = Parameters(found["learning_rate"], int(found["epochs"]), int(found["batch_size"]), found["weight_decay"],
                            int(found["seed"]))
    if parameters.learning_rate <= 0 or parameters.epochs < 1 or parameters.batch_size < 1 or parameters.weight_decay < 0:
        raise ExampleError(f"{path}: learning_rate, epochs and batch_size must be positive, weight_decay not negative")
    return parameters


def read_digits() -> tuple[list[Image], list[Image]]:
    """The images to train on, and those to test on."""
    with gzip.open(DIGITS, "rt", encoding="ascii") as file:
        rows = [[int(field) for field in line.split(",")] for line in file]
    images = [Image([pixel / 16 for pixel in pixels] + [1.0], digit) for *pixels, digit in rows]
    return ([image for number, image in enumerate(images) if number % TEST_EVERY],
            [image for number, image in enumerate(images) if number % TEST_EVERY == 0])


def likelihoods(weights: list[list[float]], pixels: list[float]) -> list[float]:
    """How likely the image shows each digit."""
    scores = [sum(map(float.__mul__, row, pixels)) for row in weights]
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    whole = sum(powers)
    return [power / whole for power in powers]


def learn(weights: list[list[float]], batch: list[Image], parameters: Parameters) -> float:
    """One step down the slope of the loss over these images; returns that loss, as a sum."""
    loss = 0.0
    rate = parameters.learning_rate / len(batch)
    steps = [[0.0] * len(row) for row in weights]
    for image in batch:
        chances = likelihoods(weights, image.pixels)
        loss -= math.log(max(chances[image.digit], 1e-300))
        chances[image.digit] -= 1
        for number, error in enumerate(chances):
            if abs(error) > 1e-4:
                steps[number] = [step + error * pixel for step, pixel in zip(steps[number], image.pixels)]
    kept = max(1 - parameters.learning_rate * parameters.weight_decay, 0.0)
    for number, row in enumerate(weights):
        weights[number] = [kept * weight - rate * step for weight, step in zip(row, steps[number])]
    return loss


def examine(weights: list[list[float]], images: list[Image]) -> tuple[float, float]:
    """The mean loss, and how many of the images are read right, from 0 to 1."""
    loss, right = 0.0, 0
    for image in images:
        chances = likelihoods(weights, image.pixels)
        loss -= math.log(max(chances[image.digit], 1e-300))
        right += chances.index(max(chances)) == image.digit
    return loss / len(images), right / len(images)


def train(parameters: Parameters, model_dir: str) -> None:
    chance = random.Random(parameters.seed)
    images, tests = read_digits()
    weights = [[chance.gauss(0, 0.1) for _ in images[0].pixels] for _ in range(CLASSES)]
    losses = []
    for epoch in range(1, parameters.epochs + 1):
        chance.shuffle(images)
        size = parameters.batch_size
        loss = sum(learn(weights, images[at:at + size], parameters) for at in range(0, len(images), size)) / len(images)
        losses.append(loss)
        print(f"epoch {epoch}: training loss {loss:.4f}")
    loss, accuracy = examine(weights, tests)
    print(f"test accuracy: {accuracy:.4f}")
    write(model_dir, "model.json", {"weights": weights})
    write(model_dir, "metrics.json", {"accuracy": accuracy, "loss": loss, "epochs": parameters.epochs,
                                      "training_loss": losses[-1]})


def write(directory: str, name: str, data: dict[str, object]) -> None:
    """The file is there whole or not at all."""
    path = os.path.join(directory, name)
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
        file.write("\n")
    os.replace(f"{path}.part", path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["train"])
    parser.add_argument("--parameters_file", required=True)
    parser.add_argument("--model_dir", required=True)
    words = parser.parse_args()
    try:
        train(read_parameters(words.parameters_file), words.model_dir)
    except (ExampleError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
