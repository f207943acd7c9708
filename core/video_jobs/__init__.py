"""Jobs of the videos API: their store on disk, their queue, and the generation of their files."""
