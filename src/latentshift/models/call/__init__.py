"""The steps of a pipeline's call: its arguments, what is known beforehand, what sampling starts from, the denoiser."""
