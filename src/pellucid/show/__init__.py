"""Results as pixels or as an HTML fragment: what the report, the notebook and the command line draw with."""
