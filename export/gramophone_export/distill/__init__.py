"""Trains vgg19-slim by knowledge distillation: a small network whose Gram matrices approximate VGG-19's.

`python -m gramophone_export.distill --teacher WEIGHTS --photos FOLDER --folder RUN` trains, and resumes an interrupted
training. The student has VGG-19's topology with fewer and narrower convolutions. At each layer a linear map P projects
the student's channels to the teacher's, so that P G Pᵀ of the student's Gram matrix G approximates the teacher's Gram
matrix. P is stored in the model as a head; `Student.heads` explains how.

A student trained only on photographs has adversarial examples: a picture optimized through it soon differs from any
photograph and matches the target only according to the student. So most of the training pictures are intermediate
results of optimizations through the current student (`walks`), which are stored and used many times (`pool`).
"""
