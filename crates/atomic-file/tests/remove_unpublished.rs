//! In a process of its own, whose temporary files are all removed.

use wdsr_atomic_file::{AtomicFile, remove_unpublished};

#[test]
fn unpublished_files_can_be_removed_before_the_process_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let count = || std::fs::read_dir(folder.path()).expect("a folder").count();
    let file = AtomicFile::create(&path("file")).expect("created");
    drop(AtomicFile::create(&path("dropped")).expect("created"));
    wdsr_atomic_file::write(&path("written"), b"").expect("written");
    assert_eq!(count(), 2);
    remove_unpublished();
    assert_eq!(count(), 1, "only the written one stays");
    assert!(path("written").exists(), "the written one is removed");
    file.publish().expect_err("its temporary file is gone");
}
