//! `wdsr serve`. Its crate tests the server; here are the program's options, results and signals.

#[cfg(not(feature = "serve"))]
#[test]
fn a_program_without_the_server_names_its_feature() {
    let run = super::wdsr()
        .args(["serve", "--listen", "0.0.0.0:1"])
        .assert();
    run.code(2).stderr(predicates::str::contains(
        "built without the server; build it with --features serve",
    ));
}

#[cfg(all(feature = "serve", unix))]
mod with_feature {
    use std::io::{BufRead, BufReader};
    use std::net::SocketAddr;
    use std::process::{Child, Command, Stdio};

    use predicates::str::contains;
    use wdsr_image::{Colour, Format, Image, Samples, encode_bytes};
    use wdsr_testing::http::{self, Connection};

    use crate::{image, program, wdsr};

    /// `wdsr serve` on a free port.
    struct Serving {
        program: Child,
        address: SocketAddr,
    }

    impl Serving {
        fn start(arguments: &[&str]) -> Self {
            let mut program = Command::new(program::path())
                .args(["serve", "--listen", "127.0.0.1:0"])
                .args(arguments)
                .stderr(Stdio::piped())
                .spawn()
                .expect("it starts");
            // Drivers of GPUs write lines of their own.
            let mut lines = BufReader::new(program.stderr.take().expect("a pipe")).lines();
            let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
                let address = line
                    .strip_prefix("listening on http://")?
                    .strip_suffix('/')?;
                Some(address.parse().expect("an address"))
            });
            let address = address.expect("it listens");
            Self { program, address }
        }

        fn signal(&self, name: &str) {
            let id = self.program.id().to_string();
            let run = Command::new("kill").args(["-s", name, &id]).status();
            assert!(run.expect("kill").success());
        }
    }

    impl Drop for Serving {
        fn drop(&mut self) {
            let _ = self.program.kill();
            let _ = self.program.wait();
        }
    }

    #[test]
    fn results_are_those_of_upscale_byte_for_byte() {
        let serving = Serving::start(&["-j", "1"]);
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let samples = Vec::from_iter((0..20 * 16 * 3).map(|i: u32| (i * 7919 % 65_521) as u16));
        let deep = Image::new(20, 16, Colour::Rgb, Samples::U16(samples));
        for (name, format, image) in [
            ("rgb.png", Format::Png, image(40, 30, Colour::Rgb)),
            ("rgb.jpg", Format::Jpeg, image(40, 30, Colour::Rgb)),
            ("deep.png", Format::Png, deep),
            ("alpha.webp", Format::WebP, image(24, 18, Colour::RgbAlpha)),
            ("alpha.tif", Format::Tiff, image(24, 18, Colour::RgbAlpha)),
            ("alpha.png", Format::Png, image(24, 18, Colour::RgbAlpha)),
        ] {
            let file = encode_bytes(&image, format).expect("a file");
            std::fs::write(at.join(name), &file).expect("written");
            let output = at.join(format!("large-{name}"));
            // A limit of time makes the same pieces of a PNG as the server.
            wdsr()
                .args(["upscale", "--timeout", "600", "--width", "50"])
                .arg(at.join(name))
                .arg("-o")
                .arg(&output)
                .assert()
                .success();
            let answer = http::request(serving.address, "POST /v1/upscale?width=50", &[], &file);
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            assert!(
                answer.body == std::fs::read(&output).expect("a file"),
                "{name}"
            );
        }
    }

    #[test]
    fn sigterm_finishes_a_request_and_a_second_one_drops_it() {
        for (signals, code) in [(1, 0), (2, 1)] {
            let mut serving = Serving::start(&["-j", "1"]);
            let mut connection = Connection::open(serving.address).expect("a connection");
            let side = if signals == 1 { 250 } else { 2000 };
            let file = encode_bytes(&image(side, side, Colour::Rgb), Format::Png).expect("a file");
            let length = format!("content-length: {}", file.len());
            let request = "POST /v1/upscale?model=base&scale=4";
            connection.send_head(request, &[&length]).expect("sent");
            connection.send(&file).expect("sent");
            let metrics = || http::request(serving.address, "GET /metrics", &[], b"").text();
            while !metrics().contains("wdsr_images_running 1") {}
            for _ in 0..signals {
                serving.signal("TERM");
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            assert_eq!(connection.receive().is_ok(), signals == 1);
            let status = serving.program.wait().expect("it ends");
            assert_eq!(status.code(), Some(code), "{signals} signals");
        }
    }

    #[test]
    fn an_open_address_without_a_token_is_wrong_usage() {
        let run = wdsr().args(["serve", "--listen", "0.0.0.0:0"]).assert();
        run.code(2).stderr(contains(
            "there is no token; give --token-file FILE, or --no-token",
        ));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "short").expect("written");
        let run = wdsr().arg("serve").arg("--token-file").arg(&file).assert();
        run.code(1).stderr(contains(
            "expected a token of 16 or more visible ASCII characters, found 5",
        ));
    }

    /// It needs a driver, such as Mesa's software (`.ci/run gpu`).
    #[cfg(all(feature = "gpu", target_os = "linux"))]
    #[test]
    fn a_device_computes_and_is_named() {
        let run = wdsr().args(["devices", "--json"]).assert().success();
        let devices: serde_json::Value =
            serde_json::from_slice(&run.get_output().stdout).expect("JSON");
        let name = devices[1]["name"].as_str().expect("a name");
        let [by_gpu, by_cpu] = ["gpu:0", "cpu"].map(|device| Serving::start(&["--device", device]));
        let models = http::request(by_gpu.address, "GET /v1/models", &[], b"").text();
        assert!(
            models.contains(&format!("\"device\":\"{name}\"")),
            "{models}"
        );
        let file = encode_bytes(&image(61, 47, Colour::RgbAlpha), Format::Png).expect("a file");
        let samples = |serving: &Serving, query: &str| {
            let request = format!("POST /v1/upscale?{query}");
            let answer = http::request(serving.address, &request, &[], &file);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let limits = wdsr_image::Limits::default();
            let image = wdsr_image::decode_bytes(&answer.body, "x".as_ref(), &limits);
            let report = answer.header("wdsr-report").to_owned();
            match image.expect("an image").samples {
                Samples::U8(samples) => (samples, report),
                other => panic!("expected 8 bits, found {:?}", other.borrowed().depth()),
            }
        };
        for query in ["model=small", "model=photo&strength=0.5"] {
            let (of_gpu, report) = samples(&by_gpu, query);
            assert!(
                report.contains(&format!("\"device\":\"{name}\"")),
                "{report}"
            );
            let pairs = of_gpu.into_iter().zip(samples(&by_cpu, query).0);
            let differences = Vec::from_iter(pairs.map(|(gpu, cpu)| gpu.abs_diff(cpu)));
            assert!(
                differences.iter().all(|d| *d <= 1),
                "{query}: {differences:?}"
            );
        }
    }

    #[cfg(all(feature = "gpu", target_os = "linux"))]
    #[test]
    fn a_device_that_is_demanded_and_absent_is_an_error() {
        let mut run = wdsr();
        run.args(["serve", "--listen", "127.0.0.1:0", "--device", "gpu"])
            .env("VK_ICD_FILENAMES", "/none")
            .env("VK_DRIVER_FILES", "/none");
        run.assert().code(1).stderr(contains("no GPU found"));
    }
}
