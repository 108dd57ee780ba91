"""Picture files, resampling, films."""
