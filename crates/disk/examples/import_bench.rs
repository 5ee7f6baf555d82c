//! One import, timed, for `cargo xtask bench import`: source file, work directory (removed first); prints seconds.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use dess_disk::{ImportRequest, ImportSource, import};
use dess_model::{ImageId, Timestamp, VersionRef};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(path), Some(images)) = (arguments.next(), arguments.next()) else {
        return Err("usage: import_bench SOURCE DIRECTORY".into());
    };
    if images.exists() {
        std::fs::remove_dir_all(&images)?;
    }
    let request = ImportRequest {
        images,
        version: VersionRef {
            image: ImageId::from_str(&"1".repeat(32))?,
            number: 1,
        },
        source: ImportSource {
            path,
            format: None,
            end_marker: None,
        },
        comment: String::new(),
        created: Timestamp(0),
    };
    let start = Instant::now();
    import(&request, &mut |_| {}, &|| false)?;
    println!("{:.3}", start.elapsed().as_secs_f64());
    Ok(())
}
