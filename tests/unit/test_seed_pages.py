"""The two pages that introduced MLBox and the directory cube: their files, exactly as printed there, read whole."""

from __future__ import annotations

from pathlib import Path

from mlcube_cli.definition.model import Author, Binding, Cube, Group, Option, Parameter, Platform, Task
from mlcube_cli.errors import Location
from tests.cubes import read, write_tree

MLBOX = {
    "mlbox.yaml": """
        type: mlbox
        mlbox_spec_version: 0.1
        name: MNIST
        version: 0.1
        author: MLPerf Best Practices Working Group
        implementation: docker
        tasks:
          downloaddata:
            inputs: {}
            outputs:
              data_dir:
                description: "A directory where MNIST dataset is downloaded."
              log_dir:
                description: "Directory for MLPerf log files."
          train:
            inputs:
              data_dir:
                description: "Input MNIST data set downloaded by the 'downloaddata' task."
              parameters_file:
                description: "Default values for the MNIST training implementation."
            outputs:
              log_dir:
                description: "Directory for MLPerf log files."
              model_dir:
                description: "Directory to save MNIST model training checkpoints."
        """,
    "workspace/parameters/default.parameters.yaml": """
        optimizer: "adam"
        train_epochs: 5
        batch_size: 32
        """,
    "tasks/downloaddata/default.yaml": """
        data_dir: data
        log_dir: log
        """,
    "tasks/train/default.yaml": """
        parameters_file: parameters/default.parameters.yaml
        data_dir: data
        log_dir: log
        model_dir: model
        """,
    "implementation/mlbox_implementation.yaml": """
        # Again, specify implementation type
        implementation_type: docker
        # Must provide image name
        image: mlperf/mlbox-example-mnist
        # This is probably not required, since latest docker supports nvidia natively.
        docker_runtime: nvidia-docker # OR docker
        # What to do at the configure phase (see below) - 'build' or 'pull'
        configure: build # OR pull
        """,
    "implementation/docker/dockerfiles/Dockerfile": "FROM ubuntu:18.04\n",
    "implementation/src/mnist.py": "",
    "implementation/src/requirements.txt": "",
}

DIRECTORY = {
    "build/mnist.py": "",
    "build/requirements.txt": "",
    "build/Dockerfile": "",
    "build/Singularity.recipe": "",
    "mlcube.yaml": """
        schema_version: 1.0.0                            # We use MLSpec library to validate YAML definition files. This is the
        schema_type: mlcube_root                          # specification of the schema that this file must be consistent with. 

        name: mnist                                      # Name of this cube.
        author: MLPerf Best Practices Working Group      # A developer of the cube.
        version: 0.1.0                                   # MLCube version.
        mlcube_spec_version: 0.1.0                        # TODO: What is it?

        tasks:                                           # Tasks are defined in external YAML files located in tasks folder.
          - 'tasks/download.yaml'                        #    "Download data set" task definition file.
          - 'tasks/train.yaml'                           #    "Training a model" task definition file.
        """,  # noqa: W291 - as printed
    "tasks/download.yaml": """
        schema_version: 1.0.0           # Task schema definition. Leave this two fields as is.
        schema_type: mlcube_task

        inputs: []                      # Since this task does not have any inputs, the section is empty.

        outputs:                        # This task produces two artifacts - downloaded data and log files.
                - name: data_dir        #    This parameter accepts path to a directory where data set will be serialized.
                  type: directory       #    We implicitly specify that this is a directory

                - name: log_dir         #    This parameter accepts path to a directory with log files this task writes.
                  type: directory       #    We implicitly specify that this is a directory
        """,
    "tasks/train.yaml": """
        schema_version: 1.0.0                # Task schema definition. Leave this two fields as is.
        schema_type: mlcube_task

        inputs:                              # These are the task inputs.
                - name: data_dir             #    This parameter accepts path to a directory where data set will be serialized.
                  type: directory            #    We implicitly specify that this is a directory

                - name: parameters_file      #    A file containing training hyper-parameters.
                  type: file                 #    This is a file.

        outputs:                             # These are the task outputs.
                - name: log_dir              #    This parameter accepts path to a directory with log files this task writes.
                  type: directory            #    We implicitly specify that this is a directory

                - name: model_dir            #    Path to a directory where training artifacts are stored.
                  type: directory            #    We implicitly specify that this is a directory
        """,
    "workspace/parameters/default.parameters.yaml": """
        optimizer: "adam"
        train_epochs: 5
        batch_size: 32
        """,
    "run/download.yaml": """
        schema_type: mlcube_invoke                     # Run (invoke) schema definition. Leave this two fields as is.
        schema_version: 1.0.0

        task_name: download                           # Task name

        input_binding: {}                             # No input parameters for this task.

        output_binding:                               # Output parameters, format is "parameter: value"
                data_dir: $WORKSPACE/data             #    Path to serialize downloaded MNIST data set
                log_dir: $WORKSPACE/download_logs     #    Path to log files.
        """,
    "run/train.yaml": """
        schema_type: mlcube_invoke                     # Run (invoke) schema definition. Leave this two fields as is.
        schema_version: 1.0.0

        task_name: train                              # Task name

        input_binding:                                # Input parameters (name: value)
                data_dir: $WORKSPACE/data
                parameters_file: $WORKSPACE/parameters/default.parameters.yaml

        output_binding:                               # Output parameters (name: value)
                log_dir: $WORKSPACE/train_logs
                model_dir: $WORKSPACE/model
        """,
    "platforms/docker.yaml": """
        schema_version: 1.0.0
        schema_type: mlcube_docker

        image: mlcommons/mlcube:mnist   # Docker image name
        docker_runtime: docker      # Docker executable: docker or nvidia-docker
        """,
    "platforms/singularity.yaml": """
        schema_version: 1.0.0
        schema_type: mlcube_singularity

        image: /opt/singularity/mlcommons_mlcube_mnist-0.01.simg   # Path to or name of a Singularity image.
        """,
}
GROUP = Author("MLPerf Best Practices Working Group")


def task_of(name: str, group: str, file: str, place: Location, *parameters: Parameter) -> Task:
    """A task with one group, which gives the parameters their defaults."""
    bindings = tuple(Binding(one.name, one.default, one.location) for one in parameters)
    return Task(name, parameters, None, (Group(group, name, bindings, Location(file)),), place)


def test_the_mlbox_of_the_page_reads_without_a_word(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, MLBOX))

    download, train = "tasks/downloaddata/default.yaml", "tasks/train/default.yaml"
    implementation = "implementation/mlbox_implementation.yaml"

    def parameter(name: str, direction: str, value: str, description: str, file: str, line: int) -> Parameter:
        return Parameter(name, direction, "unknown", value, "ro" if direction == "input" else "rw", description,
                         Location(file, line, len(name) + 3))

    assert reading.problems == ()
    assert reading.cube == Cube(
        root=str(tmp_path), file=str(tmp_path / "mlbox.yaml"), dialect="mlbox", name="MNIST", version="0.1",
        description="", authors=(GROUP,), workspace=str(tmp_path / "workspace"),
        tasks=(
            task_of("downloaddata", "default", download, Location("mlbox.yaml", 8, 3),
                parameter("data_dir", "output", "data", "A directory where MNIST dataset is downloaded.", download, 1),
                parameter("log_dir", "output", "log", "Directory for MLPerf log files.", download, 2),
            ),
            task_of("train", "default", train, Location("mlbox.yaml", 15, 3),
                parameter("data_dir", "input", "data", "Input MNIST data set downloaded by the 'downloaddata' task.",
                          train, 2),
                parameter("parameters_file", "input", "parameters/default.parameters.yaml",
                          "Default values for the MNIST training implementation.", train, 1),
                parameter("log_dir", "output", "log", "Directory for MLPerf log files.", train, 3),
                parameter("model_dir", "output", "model", "Directory to save MNIST model training checkpoints.", train, 4),
            ),
        ),
        platforms=(Platform("docker", "docker", (
            Option("image", "mlperf/mlbox-example-mnist", f"{implementation}:4:8"),
            Option("docker", "nvidia-docker", f"{implementation}:6:17"),
            Option("build_strategy", "build", f"{implementation}:8:12"),
            Option("build_context", ".", "default"),
            Option("build_file", "implementation/docker/dockerfiles/Dockerfile", "default"),
        ), Location(implementation)),),
        requirements={},
    )


def test_the_directory_cube_of_the_page_reads_without_a_word(tmp_path: Path) -> None:
    reading = read(write_tree(tmp_path, DIRECTORY))

    def parameter(name: str, direction: str, kind: str, value: str, place: Location) -> Parameter:
        return Parameter(name, direction, kind, value, "ro" if direction == "input" else "rw", "", place)

    download, train = "run/download.yaml", "run/train.yaml"
    parameters_file = "$WORKSPACE/parameters/default.parameters.yaml"
    docker, singularity = "platforms/docker.yaml", "platforms/singularity.yaml"
    assert reading.problems == ()
    assert reading.cube == Cube(
        root=str(tmp_path), file=str(tmp_path / "mlcube.yaml"), dialect="directory", name="mnist", version="0.1.0",
        description="", authors=(GROUP,), workspace=str(tmp_path / "workspace"),
        tasks=(
            task_of("download", "download", download, Location("tasks/download.yaml"),
                parameter("data_dir", "output", "directory", "$WORKSPACE/data", Location(download, 9, 19)),
                parameter("log_dir", "output", "directory", "$WORKSPACE/download_logs", Location(download, 10, 18)),
            ),
            task_of("train", "train", train, Location("tasks/train.yaml"),
                parameter("data_dir", "input", "directory", "$WORKSPACE/data", Location(train, 7, 19)),
                parameter("parameters_file", "input", "file", parameters_file, Location(train, 8, 26)),
                parameter("log_dir", "output", "directory", "$WORKSPACE/train_logs", Location(train, 11, 18)),
                parameter("model_dir", "output", "directory", "$WORKSPACE/model", Location(train, 12, 20)),
            ),
        ),
        platforms=(
            Platform("docker", "docker", (
                Option("image", "mlcommons/mlcube:mnist", f"{docker}:4:8"),
                Option("docker", "docker", f"{docker}:5:17"),
                Option("build_strategy", "build", "default"),
                Option("build_context", "build", "default"),
                Option("build_file", "Dockerfile", "default"),
            ), Location(docker)),
            Platform("singularity", "singularity", (
                Option("image", "/opt/singularity/mlcommons_mlcube_mnist-0.01.simg", f"{singularity}:4:8"),
            ), Location(singularity)),
        ),
        requirements={},
    )


def test_the_printed_words_of_the_command_line_name_what_they_did(tmp_path: Path) -> None:
    write_tree(tmp_path, DIRECTORY)
    reading = read(tmp_path, platform="platforms/docker.yaml", run_files=("run/train.yaml",))
    assert reading.platform == "docker"
    assert reading.problems == ()
    assert read(tmp_path, platform="platforms/singularity.yaml").platform == "singularity"
    box = write_tree(tmp_path / "examples/mnist/docker", MLBOX)
    assert read(tmp_path, where="./examples/mnist/docker").cube == read(box, cwd=tmp_path, where=str(box)).cube
