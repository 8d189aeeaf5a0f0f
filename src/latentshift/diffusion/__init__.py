"""Schedule, noising, guidance, sampling: functions of a callable denoiser, whatever computes it."""
