"""What is packaged: ``dcsp``, and the folder ``jobs`` under a name of ours, ``dcsp_jobs``."""

from setuptools import find_packages, setup

jobs = find_packages(include=["jobs", "jobs.*"])
setup(
    packages=[
        *find_packages(include=["dcsp", "dcsp.*"]),
        *(name.replace("jobs", "dcsp_jobs", 1) for name in jobs),
    ],
    package_dir={"dcsp_jobs": "jobs"},
)
