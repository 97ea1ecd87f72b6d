"""Trains vgg19-slim: a small network whose Gram matrices stand in for VGG-19's.

`python -m gramophone_export.distill --teacher WEIGHTS --photos FOLDER --folder RUN` trains, and goes on where it was
interrupted. The student has VGG-19's topology with fewer and narrower convolutions. At each of its layers a linear map
P takes its channels to the teacher's, so that its Gram matrix G stands for P G Pᵀ of the teacher; P is shipped as a
head, see `export`. Trained on photographs alone it would be exploited: a picture optimized through it soon leaves the
photographs, for one that the student mistakes for its target. So most of what it learns from are pictures on their way
to somewhere, optimized through the student itself as it is at the time (`walks`), and re-read many times (`pool`).
"""
