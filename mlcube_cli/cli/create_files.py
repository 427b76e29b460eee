"""The files of a new cube, as `mlcube create` writes them: texts with `{NAMES}` to be filled in."""

from __future__ import annotations

PROGRAM = '''\
"""The program of the cube: it is called with a task's name and one --NAME=PATH for each parameter of the task.

Any Python 3 runs it; replace it by what you like, as long as it takes the same words.
"""

import argparse
import csv
import json
import os
import random


def main():
    parser = argparse.ArgumentParser()
{TASK_ARGUMENT}
    for name in ("parameters_file", "data_dir", "model_dir", "report_file"):
        parser.add_argument(f"--{{name}}")
    arguments = parser.parse_args()
    with open(arguments.parameters_file) as file:
        parameters = json.load(file)
    if arguments.task == "prepare":
        prepare(parameters, arguments.data_dir)
    else:
        train(parameters, arguments.data_dir, arguments.model_dir, arguments.report_file)


def prepare(parameters, data_dir):
    """Write points near the line y = 3 x + 2: a data set."""
    os.makedirs(data_dir, exist_ok=True)
    chance = random.Random(parameters["seed"])
    with open(os.path.join(data_dir, "points.csv"), "w", newline="") as file:
        writer = csv.writer(file)
        for _ in range(parameters["points"]):
            x = chance.uniform(0, 10)
            writer.writerow([x, 3 * x + 2 + chance.gauss(0, 0.1)])
    print(f"wrote {{parameters['points']}} points")


def train(parameters, data_dir, model_dir, report_file):
    """Find the line again, step by step: a model."""
    with open(os.path.join(data_dir, "points.csv"), newline="") as file:
        points = [(float(x), float(y)) for x, y in csv.reader(file)]
    slope = start = 0.0
    for _ in range(parameters["steps"]):
        errors = [(slope * x + start - y, x) for x, y in points]
        slope -= parameters["rate"] * sum(error * x for error, x in errors) / len(points)
        start -= parameters["rate"] * sum(error for error, _ in errors) / len(points)
    os.makedirs(model_dir, exist_ok=True)
    with open(os.path.join(model_dir, "model.json"), "w") as file:
        json.dump({{"slope": slope, "start": start}}, file)
    with open(report_file, "w") as file:
        file.write(f"y = {{slope:.2f}} x + {{start:.2f}}, found in {{len(points)}} points\\n")
    print(f"y = {{slope:.2f}} x + {{start:.2f}}")


if __name__ == "__main__":
    main()
'''
TASK_FIRST = '    parser.add_argument("task", choices=("prepare", "train"))'
TASK_AS_OPTION = '    parser.add_argument("--mlbox_task", dest="task", choices=("prepare", "train"))'

PARAMETERS = '{\n  "points": 200,\n  "steps": 2000,\n  "rate": 0.02,\n  "seed": 1\n}\n'

DOCKERFILE = """\
# The image of the cube. FROM names an image that has Python 3: one that is here already needs no network,
# another one is pulled. For a different one change the line below.
FROM {IMAGE}
COPY {PROGRAM} /opt/cube/main.py
# Readable by any user, whatever the modes were where the image is built.
RUN chmod -R a+rX /opt/cube
# mlcube puts the task's name and --NAME=PATH for each parameter behind these words.
ENTRYPOINT ["python3", "/opt/cube/main.py"]
"""
# What a build need not be sent.
DOCKERIGNORE = "workspace\n"

RECIPE = """\
# The image of the cube; it starts from one that has Python 3.
Bootstrap: {BOOTSTRAP}
From: {IMAGE}

%files
    {PROGRAM} /opt/cube/main.py

%runscript
    # mlcube puts the task's name and --NAME=PATH for each parameter behind these words.
    exec python3 /opt/cube/main.py "$@"
"""

GITIGNORE = "# What the tasks write, and the records of runs.\nworkspace/*\n!workspace/parameters.json\n"

README = """\
# {TITLE}

A cube: two tasks, what they read and what they write.

| task | reads | writes |
|---|---|---|
| `prepare` | `parameters.json` | `data/points.csv`: points near a line |
| `train` | `parameters.json`, `data` | `model/model.json`: the line, found again; `report.txt` |

All paths lie in `workspace/`. Next to type, from the directory that holds this one:

```sh
{COMMANDS}
```

{LAYOUT}
"""

INLINE = """\
# A cube: what its tasks are, what they read and what they write. Try: mlcube validate, mlcube describe
name: {NAME}
description: Points near a line, and the line found again.
version: "0.1.0"
# authors:
#   - name: Your name
#     email: you@example.org

# Where the tasks run: `mlcube run --platform NAME` chooses, a single one needs no choice.
{PLATFORMS}
tasks:
  prepare:
    parameters:
      inputs:
        # The program gets --parameters_file=PATH. A relative path lies in workspace/. Inputs are read-only.
        parameters_file: {{type: file, default: parameters.json}}
      outputs:
        # mlcube makes the directory, and afterwards it belongs to you.
        data_dir: {{type: directory, default: data}}

  train:
    parameters:
      inputs:
        parameters_file: {{type: file, default: parameters.json}}
        data_dir: {{type: directory, default: data}}     # what prepare wrote
      outputs:
        model_dir: {{type: directory, default: model}}
        report_file: {{type: file, default: report.txt}}
"""
INLINE_PLATFORMS = {
    "local": """\
local:
  entrypoint: {PROGRAM}            # run by the Python of this machine
  # requirements: requirements.txt  # what it needs; mlcube installs it once, in an environment of its own
""",
    "docker": """\
docker:
  image: {TAG}
  build_strategy: build         # from the Dockerfile beside this file; never pulled{ENGINE}
""",
    "singularity": """\
singularity:
  image: {SIF}          # in workspace/.image
  build_file: Singularity.recipe{ENGINE}
""",
}

ROOT = """\
# A cube of the directory dialect. Its tasks, their values and the platforms have files of their own.
schema_version: 1.0.0
schema_type: mlcube_root

name: {NAME}
description: Points near a line, and the line found again.
version: 0.1.0
# author: Your name

tasks:
  - tasks/prepare.yaml
  - tasks/train.yaml
"""
TASKS = {
    "prepare": """\
# A task's name is its file's name. The program gets --NAME=PATH for each of these.
schema_version: 1.0.0
schema_type: mlcube_task

inputs:
  - name: parameters_file
    type: file

outputs:
  - name: data_dir
    type: directory
""",
    "train": """\
schema_version: 1.0.0
schema_type: mlcube_task

inputs:
  - name: parameters_file
    type: file
  - name: data_dir              # what prepare wrote
    type: directory

outputs:
  - name: model_dir
    type: directory
  - name: report_file
    type: file
""",
}
RUNS = {
    "prepare": """\
# The values that `mlcube run --task run/prepare.yaml` gives the task; $WORKSPACE is the cube's workspace/.
schema_version: 1.0.0
schema_type: mlcube_invoke

task_name: prepare

input_binding:
  parameters_file: $WORKSPACE/parameters.json

output_binding:
  data_dir: $WORKSPACE/data
""",
    "train": """\
schema_version: 1.0.0
schema_type: mlcube_invoke

task_name: train

input_binding:
  parameters_file: $WORKSPACE/parameters.json
  data_dir: $WORKSPACE/data

output_binding:
  model_dir: $WORKSPACE/model
  report_file: $WORKSPACE/report.txt
""",
}
DIRECTORY_PLATFORMS = {
    "local": """\
# The Python of this machine.
schema_version: 1.0.0
schema_type: mlcube_local

entrypoint: {PROGRAM}
# requirements: build/requirements.txt   # what it needs; mlcube installs it once, in an environment of its own
""",
    "docker": """\
# A container whose image is built from build/Dockerfile.
schema_version: 1.0.0
schema_type: mlcube_docker

image: {TAG}{ENGINE}
""",
    "singularity": """\
# A container whose image is built from build/Singularity.recipe; a relative path lies in workspace/.
schema_version: 1.0.0
schema_type: mlcube_singularity

image: {SIF}{ENGINE}
""",
}

BOX = """\
# An MLBox: its tasks here, their values in tasks/TASK/GROUP.yaml, how it runs in implementation/.
type: mlbox
mlbox_spec_version: 0.1
name: {NAME}
version: 0.1
# author: Your name
implementation: {KIND}

tasks:
  prepare:
    inputs:
      parameters_file:
        description: How many points, and how to find the line.
    outputs:
      data_dir:
        description: Points near a line.
  train:
    inputs:
      parameters_file:
        description: How many points, and how to find the line.
      data_dir:
        description: The points that prepare wrote.
    outputs:
      model_dir:
        description: The line, found again.
      report_file:
        description: The line, in words.
"""
BOX_GROUPS = {
    "prepare": "# The values of the group `default`; a relative path lies in workspace/.\n"
               "parameters_file: parameters.json\ndata_dir: data\n",
    "train": "parameters_file: parameters.json\ndata_dir: data\nmodel_dir: model\nreport_file: report.txt\n",
}
IMPLEMENTATIONS = {
    "local": """\
# The Python of this machine.
implementation_type: python
interpreter: system
system:
  interpreter: python3
entrypoint: {PROGRAM}
""",
    "docker": """\
# A container whose image is built from docker/dockerfiles/Dockerfile.
implementation_type: docker
image: {TAG}
configure: build{ENGINE}
""",
    "singularity": """\
# A container whose image is built from singularity/recipes/Singularity.recipe, and lies beside it.
implementation_type: singularity
""",
}
LAYOUTS = {
    "inline": "The definition is `mlcube.yaml`, the program `main.py`.",
    "directory": "The definition: `mlcube.yaml`, `tasks/`, `run/` (the values), `platforms/`. The program is `build/main.py`.",
    "mlbox": "The definition: `mlbox.yaml`, `tasks/` (the values), `implementation/`. The program is\n"
             "`implementation/src/main.py`.",
}
