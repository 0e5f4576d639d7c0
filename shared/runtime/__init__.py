"""What every command needs: errors, files, configs, run folders, progress, processes and devices."""
