"""What PyInstaller has to know about this package."""
