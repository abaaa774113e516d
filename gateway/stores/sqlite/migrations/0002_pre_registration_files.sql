-- The files of each registration as they were validated; NULL in versions from before this migration.
ALTER TABLE registration_version ADD COLUMN files TEXT;

CREATE TRIGGER registration_version_never_changes BEFORE UPDATE ON registration_version
BEGIN
  SELECT RAISE(ABORT, 'a registration in force is followed by another, never changed');
END;
CREATE TRIGGER registration_version_never_goes BEFORE DELETE ON registration_version
BEGIN
  SELECT RAISE(ABORT, 'messages name the registration they were accepted under');
END;
