"""Operations: the state of the whole pipeline, its completeness in words, the doctor's checks."""
