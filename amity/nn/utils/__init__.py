"""Tools for gradients, parameters, sequences and parametrizations."""

from amity.nn.utils import parametrizations, parametrize, rnn, stateless
from amity.nn.utils.clip_grad import (
    clip_grad_norm,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from amity.nn.utils.convert_parameters import parameters_to_vector, vector_to_parameters
from amity.nn.utils.fusion import (
    fuse_conv_bn_eval,
    fuse_conv_bn_weights,
    fuse_linear_bn_eval,
    fuse_linear_bn_weights,
)
from amity.nn.utils.init import skip_init
from amity.nn.utils.spectral_norm_hook import remove_spectral_norm, spectral_norm
from amity.nn.utils.weight_norm_hook import remove_weight_norm, weight_norm
