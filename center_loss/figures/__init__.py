def draw_run(folder, metrics): pass
