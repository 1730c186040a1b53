"""The parts of the module's panel, one class for each section of the .ui file."""
