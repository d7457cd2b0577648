"""Study files to plans, plans to trials on Ray, trials to MLflow. The only package that knows Ray."""
