"""Jobs of the videos API: the store on disk, the queue of jobs, and the generation of the video files."""
