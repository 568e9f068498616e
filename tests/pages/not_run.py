"""Commands of the pages that a test machine cannot run, by how they begin or what they contain, and why.

Options of `unloc`, of `python …` and settings of configs are checked all the same. An entry without a command is an
error.
"""

NOT_RUN = {
    "unloc demo": "serves until it is interrupted; tests/demo uses it, and its API as a program does",
    "gcloud ": "needs a Google Cloud project",
    "export PROJECT=": "names the reader's own project",
    "docker ": "needs Docker",
    "cp launch/examples/": "copies a file, for the reader to edit",
    "pip install ": "installs; that the extra exists is checked",
    "make ": "the rule is asked for with `make -n`: the quickstart takes minutes, and its commands are run one by one",
    ".venv/bin/python -m pytest": "runs the tests themselves",
    "tfds build": "needs further packages; tests/data_pipelines/test_build_by_tfds.py runs the same",
    "--beam-pipeline-options": "Beam has a separate environment; tests/data_pipelines/test_build_on_beam.py",
    "--config.data.format=mediasequence": "needs Scenic's shards; reading/test_mediasequence.py has some",
    "--features i3d=video.npy": "needs a model of such features; tests/features/test_given_features.py",
    "--features clip=clip/video.npz": "needs a model of such features; tests/features/test_given_features.py",
    "'slowfast': {'encoder'": "needs features of two kinds; tests/training/test_windows_and_features.py",
    "--sentencepiece": "needs the library sentencepiece; tests/inference/test_zeroshot_videoprism.py",
    "--config configs/charades_sta.py:videoprism_": "needs its weights; tests/training/test_videoprism_training.py",
    "--zeroshot-clip clap:": "needs a dataset with sound; tests/features/test_clap_encoder.py",
    "--topology=v": "minutes, and the TPU compiler; tests/aot/test_programs.py runs the smallest",
    "--annotations DOWNLOADS/": "needs a publisher's files; tests/data_pipelines reads small ones in every layout",
    "--config.data.dir=DOWNLOADS/": "needs a publisher's files",
    "--checkpoint=DOWNLOADS/": "needs a publisher's files",
    "--ground-truth DOWNLOADS/": "needs a publisher's files; tests/inference scores small ones in every layout",
    "python benchmarks/compile_table.py": "as `unloc compile`, for every config",
    "python benchmarks/clip.py": "needs PyTorch and its CLIPs",
    "unloc average split1.json": "needs results of several splits; tests/metrics/test_average.py",
    "unloc merge --predictions a.json": "needs several checkpoints' predictions; tests/metrics/test_merge.py",
    "unloc submission --challenge NAME": "needs the reader's predictions; tests/metrics has small ones",
    "--videos recordings --audio": "needs recordings; tests/data_pipelines/test_build_sound.py makes some",
    "--config=configs/sound.py": "needs recordings; tests/training/test_sound_training.py learns tones",
    "'audio': {'encoder'": "needs recordings; tests/model/test_audio_tower.py has a model that sees and hears",
    "--config=configs/mad.py": "needs features; tests/config/test_configs.py trains its tiny size",
    "--config=configs/small.py": "needs the settings of the data; tests/data_pipelines/test_starting_point.py",
    "python benchmarks/real.py": "needs recordings and hours; tests/test_real_benchmark.py has its baselines",
    "python benchmarks/train_step.py --reference": "needs a checkout of Scenic",
    "python -m tests.check_goldens": "needs numbers of the reference; tests/test_check_goldens.py",
    "python -m tests.training.parallel_cases": "minutes; tests/training/test_sharding.py runs some of the cases",
}
