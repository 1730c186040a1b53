"""Where the module runs: packages that Slicer lacks, imports off the main thread, the worker's thread."""
