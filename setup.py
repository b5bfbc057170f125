"""What pyproject.toml cannot say: configs/ and runs/published/ lie in the package once it is installed.

In a checkout they are where people look for them, at the top; dreamer/config.py and dreamer/results/published.py know
both places.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["dreamer", "dreamer.*"]), "dreamer.configs", "dreamer.published"],
    package_dir={"dreamer.configs": "configs", "dreamer.published": "runs/published"},
)
