"""The functions of neural networks: `amity.ops` under the names of `torch.nn.functional`."""
