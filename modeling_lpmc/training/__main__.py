"""`lpmc train` for launchers that start a module in several processes:

    accelerate launch --multi_gpu --num_processes 2 -m modeling_lpmc.training RECIPE --output DIR [KEY=VALUE ...]
    torchrun --nproc_per_node 2 -m modeling_lpmc.training RECIPE --output DIR [KEY=VALUE ...]

Both also work without a GPU, where gloo joins the processes. Not so `accelerate launch --cpu --num_processes 2`, which
starts a second process through MPI alone and is told apart here. Process zero prints the result; of the others only
faults are heard.
"""

from __future__ import annotations

import os
import sys

from lpmc import main

ONLY_ONE = (
    "accelerate launch --cpu starts one process unless it has an MPI host file; for several, here too, give "
    "--multi_gpu in place of --cpu, or use torchrun --nproc_per_node"
)

if __name__ == "__main__":
    # Asked for several processes it names a port for them, and sets no WORLD_SIZE when it starts but one.
    if os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ and "RANK" not in os.environ:
        print(ONLY_ONE, file=sys.stderr)
    if int(os.environ.get("RANK", "0")):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for as long as the process lives
    sys.argv[1:1] = ["train"]
    main()
