class Wdsr < Formula
  desc "Upscales images with WDSR networks: faithful, exact, fast on the processor"
  homepage "https://github.com/wdsr-rs/wdsr"
  version "@VERSION@"
  license any_of: ["MIT", "Apache-2.0"]

  on_macos do
    on_arm do
      url "https://github.com/wdsr-rs/wdsr/releases/download/v@VERSION@/wdsr-@VERSION@-aarch64-apple-darwin.tar.gz"
      sha256 "@SHA256:aarch64-apple-darwin.tar.gz@"
    end
    on_intel do
      url "https://github.com/wdsr-rs/wdsr/releases/download/v@VERSION@/wdsr-@VERSION@-x86_64-apple-darwin.tar.gz"
      sha256 "@SHA256:x86_64-apple-darwin.tar.gz@"
    end
  end

  on_linux do
    on_arm do
      url "https://github.com/wdsr-rs/wdsr/releases/download/v@VERSION@/wdsr-@VERSION@-aarch64-unknown-linux-musl.tar.gz"
      sha256 "@SHA256:aarch64-unknown-linux-musl.tar.gz@"
    end
    on_intel do
      url "https://github.com/wdsr-rs/wdsr/releases/download/v@VERSION@/wdsr-@VERSION@-x86_64-unknown-linux-musl.tar.gz"
      sha256 "@SHA256:x86_64-unknown-linux-musl.tar.gz@"
    end
  end

  def install
    bin.install "wdsr"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/wdsr.bash" => "wdsr"
    zsh_completion.install "completions/wdsr.zsh" => "_wdsr"
    fish_completion.install "completions/wdsr.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/wdsr --version")
    assert_match "base", shell_output("#{bin}/wdsr models")
  end
end
