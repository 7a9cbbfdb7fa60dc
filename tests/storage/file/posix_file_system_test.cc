#include "storage/file/posix_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "storage/file/aligned_buffer.h"
#include "tests/storage/file/temp_dir.h"

namespace kdn {
namespace {

class PosixFileSystemTest : public ::testing::TestWithParam<DirectIo> {
 protected:
  std::string PathOf(const std::string& name) const { return dir_.path() + "/" + name; }
  std::unique_ptr<File> Create(const std::string& name) {
    auto file = file_system_.Open(PathOf(name), OpenMode::kCreate, GetParam());
    EXPECT_TRUE(file.ok()) << file.status();
    return std::move(*file);
  }
  static AlignedBuffer Filled(size_t bytes, uint8_t first) {
    AlignedBuffer buffer(bytes);
    for (size_t i = 0; i < buffer.size(); ++i) buffer.data()[i] = static_cast<uint8_t>(first + i / 512);
    return buffer;
  }

  TempDir dir_;
  PosixFileSystem file_system_;
};

TEST_P(PosixFileSystemTest, ReadsBackWhatWasWrittenAndStopsAtTheEnd) {
  const auto file = Create("f");
  const AlignedBuffer written = Filled(3 * kIoAlignment, 1);
  ASSERT_TRUE(file->WriteAt(kIoAlignment, written.span()).ok());
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(*file->Size(), 4 * kIoAlignment);
  AlignedBuffer read(6 * kIoAlignment);
  EXPECT_EQ(*file->ReadAt(kIoAlignment, read.span()), 3 * kIoAlignment);
  EXPECT_TRUE(std::equal(written.span().begin(), written.span().end(), read.span().begin()));
  EXPECT_EQ(*file->ReadAt(8 * kIoAlignment, read.span()), 0u);
  ASSERT_TRUE(file->Truncate(kIoAlignment + 100).ok());
  EXPECT_EQ(*file->ReadAt(0, read.span()), kIoAlignment + 100);
}

TEST_P(PosixFileSystemTest, QueuesFinishInTheOrderSubmitted) {
  const auto file = Create("f");
  constexpr size_t kPieces = 20;
  constexpr size_t kPieceBytes = 16 * kIoAlignment;
  const AlignedBuffer written = Filled(kPieces * kPieceBytes, 3);
  {
    const auto queue = file->NewQueue();
    for (size_t i = 0; i < kPieces; ++i) {
      while (queue->pending() >= queue->max_pending()) EXPECT_EQ(*queue->WaitOldest(), kPieceBytes);
      queue->SubmitWrite(i * kPieceBytes, written.span().subspan(i * kPieceBytes, kPieceBytes));
    }
    // The rest is waited for by the destructor.
  }
  AlignedBuffer read(kPieces * kPieceBytes + kPieceBytes);
  const auto queue = file->NewQueue();
  std::vector<size_t> got;
  for (size_t i = 0; i <= kPieces; ++i) {
    while (queue->pending() >= queue->max_pending()) got.push_back(*queue->WaitOldest());
    // The last piece lies behind the end of the file.
    queue->SubmitRead(i * kPieceBytes, read.span().subspan(i * kPieceBytes, kPieceBytes));
  }
  while (queue->pending() > 0) got.push_back(*queue->WaitOldest());
  std::vector<size_t> expected(kPieces, kPieceBytes);
  expected.push_back(0);
  EXPECT_EQ(got, expected);
  EXPECT_TRUE(std::equal(written.span().begin(), written.span().end(), read.span().begin()));
}

TEST_P(PosixFileSystemTest, QueuesReportErrors) {
  {
    const auto file = Create("f");
    ASSERT_TRUE(file->WriteAt(0, Filled(kIoAlignment, 1).span()).ok());
  }
  const auto read_only = file_system_.Open(PathOf("f"), OpenMode::kRead, GetParam());
  ASSERT_TRUE(read_only.ok());
  const AlignedBuffer bytes = Filled(kIoAlignment, 2);
  const auto queue = (*read_only)->NewQueue();
  queue->SubmitWrite(0, bytes.span());
  EXPECT_FALSE(queue->WaitOldest().ok());
  EXPECT_FALSE((*read_only)->WriteAt(0, bytes.span()).ok());
}

TEST_P(PosixFileSystemTest, AllocationExtendsTheFileWithZerosOrIsUnimplemented) {
  const auto file = Create("f");
  const absl::Status allocated = file->Allocate(0, 8 * kIoAlignment);
  if (absl::IsUnimplemented(allocated)) GTEST_SKIP() << allocated;
  ASSERT_TRUE(allocated.ok()) << allocated;
  EXPECT_EQ(*file->Size(), 8 * kIoAlignment);
  AlignedBuffer read(kIoAlignment);
  EXPECT_EQ(*file->ReadAt(4 * kIoAlignment, read.span()), kIoAlignment);
  EXPECT_THAT(read.span(), ::testing::Each(0));
}

TEST_P(PosixFileSystemTest, OpeningAndRemovingTellWhatIsWrong) {
  EXPECT_TRUE(absl::IsNotFound(file_system_.Open(PathOf("none"), OpenMode::kRead, GetParam()).status()));
  EXPECT_TRUE(absl::IsNotFound(file_system_.Open(PathOf("none"), OpenMode::kReadWrite, GetParam()).status()));
  EXPECT_TRUE(absl::IsNotFound(file_system_.Remove(PathOf("none"))));
  EXPECT_TRUE(absl::IsNotFound(file_system_.ListDir(PathOf("none")).status()));
  Create("f");
  EXPECT_TRUE(absl::IsAlreadyExists(file_system_.Open(PathOf("f"), OpenMode::kCreate, GetParam()).status()));
  EXPECT_FALSE(file_system_.CreateDirs(PathOf("f") + "/below").ok());
}

TEST_P(PosixFileSystemTest, OpenFilesOutliveTheirNames) {
  const auto file = Create("f");
  ASSERT_TRUE(file->WriteAt(0, Filled(kIoAlignment, 1).span()).ok());
  ASSERT_TRUE(file_system_.Rename(PathOf("f"), PathOf("g")).ok());
  EXPECT_THAT(*file_system_.ListDir(dir_.path()), ::testing::ElementsAre("g"));
  ASSERT_TRUE(file_system_.Remove(PathOf("g")).ok());
  ASSERT_TRUE(file_system_.SyncDir(dir_.path()).ok());
  AlignedBuffer read(kIoAlignment);
  EXPECT_EQ(*file->ReadAt(0, read.span()), kIoAlignment);
}

TEST_P(PosixFileSystemTest, CreatesDirectoriesAndReportsFreeSpace) {
  ASSERT_TRUE(file_system_.CreateDirs(PathOf("a/b/c")).ok());
  ASSERT_TRUE(file_system_.CreateDirs(PathOf("a/b/c")).ok());
  EXPECT_TRUE(std::filesystem::is_directory(PathOf("a/b/c")));
  EXPECT_GT(*file_system_.FreeBytes(PathOf("a")), 0u);
}

INSTANTIATE_TEST_SUITE_P(Direct, PosixFileSystemTest, ::testing::Values(DirectIo::kAuto));
INSTANTIATE_TEST_SUITE_P(Cached, PosixFileSystemTest, ::testing::Values(DirectIo::kOff));

TEST(PosixFileLockTest, ASecondHolderIsRefusedWithTheFirstOnesProcessId) {
  TempDir dir;
  PosixFileSystem file_system;
  const std::string path = dir.path() + "/LOCK";
  auto held = file_system.Lock(path);
  ASSERT_TRUE(held.ok()) << held.status();
  const absl::Status refused = file_system.Lock(path).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()),
              ::testing::HasSubstr(StrCat("held by process ", static_cast<int64_t>(::getpid()))));
  held->reset();
  EXPECT_TRUE(file_system.Lock(path).ok());
}

TEST(PosixFileLockTest, ALockFileWithGarbageInItIsRefusedWithoutAProcessId) {
  TempDir dir;
  PosixFileSystem file_system;
  const std::string path = dir.path() + "/LOCK";
  const auto held = file_system.Lock(path);
  ASSERT_TRUE(held.ok());
  std::ofstream(path) << "garbage";
  EXPECT_TRUE(absl::IsFailedPrecondition(file_system.Lock(path).status()));
}

TEST(BufferPoolTest, HandsOutAlignedBuffersAndKeepsNoMoreThanItMay) {
  BufferPool pool(3 * kIoAlignment, 1);
  AlignedBuffer first = pool.Take();
  AlignedBuffer second = pool.Take();
  EXPECT_EQ(first.size(), 3 * kIoAlignment);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first.data()) % kIoAlignment, 0u);
  const uint8_t* kept = first.data();
  pool.Return(std::move(first));
  pool.Return(std::move(second));
  EXPECT_EQ(pool.Take().data(), kept);
}

}  // namespace
}  // namespace kdn
