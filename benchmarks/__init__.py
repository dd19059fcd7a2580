"""What Pellucid is measured by: right or wrong, fast or slow, large or small."""
