import tensorflow as tf

# On a GPU, float32 products would otherwise keep ten bits, and the values here are held to six digits.
tf.config.experimental.enable_tensor_float_32_execution(False)
