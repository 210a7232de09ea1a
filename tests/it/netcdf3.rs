//! netCDF-3 files that are damaged: an error or a right answer, never a panic or a huge allocation.

use std::path::PathBuf;

use serde_json::Value;

use crate::common::{error, little, rows, session};

/// Bytes of the header of `odd_cdf1_4.nc` and of `odd_cdf5_4.nc`: the data of `lat` follows, which is -10.5 first.
fn header_length(content: &[u8]) -> usize {
    let first = (-10.5f64).to_be_bytes();
    content.windows(8).position(|word| word == first).unwrap()
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(little(&format!("netcdf3/{name}"))).unwrap()
}

/// A folder for damaged copies.
struct Copies(tempfile::TempDir, usize);

impl Copies {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), 0)
    }

    fn write(&mut self, content: &[u8]) -> PathBuf {
        self.1 += 1;
        let path = self.0.path().join(format!("copy{}.nc", self.1));
        std::fs::write(&path, content).unwrap();
        path
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_file_gives_an_error_or_the_right_answer() {
    let session = session();
    let mut copies = Copies::new();
    for name in ["odd_cdf1_4.nc", "odd_cdf2_4.nc", "odd_cdf5_4.nc"] {
        let content = fixture(name);
        let header = header_length(&content);
        let statement = |path: &PathBuf| {
            let path = path.to_str().unwrap();
            format!(r#"SELECT lat, short FROM "{path}"."short" ORDER BY time, lat"#)
        };
        let whole = rows(&session, &statement(&copies.write(&content))).await;
        let whole = whole.unwrap();
        assert_eq!(whole.len(), 12);
        let (mut right, mut wrong) = (0, 0);
        for length in 0..content.len() {
            let path = copies.write(&content[..length]);
            let sql = statement(&path);
            if length < header {
                let error = error(&session, &sql).await;
                let named = if length < 4 {
                    "not an array dataset"
                } else {
                    "truncated"
                };
                assert!(error.contains(named), "{name} of {length} bytes: {error}");
                continue;
            }
            match rows(&session, &sql).await {
                Ok(got) => {
                    assert_eq!(got, whole, "{name} of {length} bytes");
                    right += 1;
                }
                Err(_) => wrong += 1,
            }
            std::fs::remove_file(path).unwrap();
        }
        // What follows the last cell of `short` is not needed; what is before it is.
        assert!(right > 50 && wrong > 200, "{name}: {right}, {wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_word_of_the_header_gives_an_error_or_an_answer_in_time() {
    let session = session();
    let mut copies = Copies::new();
    let (mut answers, mut errors) = (0, 0);
    for name in ["odd_cdf1_4.nc", "odd_cdf5_4.nc"] {
        let content = fixture(name);
        for at in (0..header_length(&content)).step_by(4) {
            for mask in [u32::MAX, 1] {
                let mut damaged = content.clone();
                let word: [u8; 4] = damaged[at..at + 4].try_into().unwrap();
                let flipped = u32::from_be_bytes(word) ^ mask;
                damaged[at..at + 4].copy_from_slice(&flipped.to_be_bytes());
                let path = copies.write(&damaged);
                let path = path.to_str().unwrap();
                let started = std::time::Instant::now();
                for sql in [
                    format!("SELECT * FROM '{path}'"),
                    format!(r#"SELECT short FROM "{path}"."short""#),
                    format!("SELECT * FROM array_info('{path}')"),
                ] {
                    match rows(&session, &sql).await {
                        Ok(_) => answers += 1,
                        Err(_) => errors += 1,
                    }
                }
                assert!(
                    started.elapsed().as_secs() < 5,
                    "{name}: word at {at} with {mask:#x} took {:?}",
                    started.elapsed()
                );
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    assert!(answers > 100 && errors > 100, "{answers}, {errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_name_what_is_damaged() {
    let session = session();
    let mut copies = Copies::new();
    let content = fixture("odd_cdf1_7.nc");
    let place = |of: &[u8]| content.windows(of.len()).position(|w| w == of).unwrap();
    let patched = |at: usize, word: u32| {
        let mut damaged = content.clone();
        damaged[at..at + 4].copy_from_slice(&word.to_be_bytes());
        damaged
    };
    // Behind the padded name of a variable: rank, dimensions, attributes, type, size, begin.
    let flag = place(b"\0\0\0\x04flag") + 8;
    let cases = [
        (patched(flag + 4, 99), vec!["variable flag", "dimension 99"]),
        (
            patched(flag + 16, 12),
            vec!["variable flag", "element type 12"],
        ),
        (
            patched(flag + 24, 0),
            vec!["variable flag", "begins at byte 0"],
        ),
        (
            patched(place(b"\0\0\0\x05units") + 12, 77),
            vec!["variable lat", "attribute units", "element type 77"],
        ),
        (patched(8, 0x0B), vec!["dimensions", "tag 0xb"]),
        (patched(4, 1000), vec!["short", "truncated"]),
    ];
    for (damaged, parts) in cases {
        let path = copies.write(&damaged);
        let sql = format!(r#"SELECT * FROM "{}"."short""#, path.to_str().unwrap());
        let error = error(&session, &sql).await;
        for part in parts.into_iter().chain([path.to_str().unwrap()]) {
            assert!(error.contains(part), "{error} does not name {part}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_netcdf3_file_is_stored_as_netcdf() {
    let path = little("little_classic.nc");
    let mut counts = Vec::new();
    for format in ["NETCDF", "NETCDF3"] {
        let session = session();
        let create = format!("CREATE EXTERNAL TABLE t STORED AS {format} LOCATION '{path}'");
        rows(&session, &create).await.unwrap();
        counts.extend(rows(&session, "SELECT count(*) FROM t").await.unwrap());
    }
    assert_eq!(Value::Array(counts), serde_json::json!([[2304], [2304]]));
    let create = format!("CREATE EXTERNAL TABLE t STORED AS NETCDF4 LOCATION '{path}'");
    let error = error(&session(), &create).await;
    assert!(error.contains("stored as netcdf3"), "{error}");
}
