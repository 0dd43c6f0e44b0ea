"""The command `amity`: a demo, the kernels kept on disk, and the machine as amity sees it."""
