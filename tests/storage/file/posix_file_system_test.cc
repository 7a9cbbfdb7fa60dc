#include "storage/file/posix_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

TEST_P(PosixFileSystemTest, WritesPiecesOneBehindTheOther) {
  const auto file = Create("f");
  const AlignedBuffer first = Filled(2 * kIoAlignment, 1);
  const AlignedBuffer second = Filled(300 * kIoAlignment, 7);
  const AlignedBuffer third = Filled(kIoAlignment, 9);
  const std::vector<ByteSpan> pieces = {first.span(), second.span(), third.span()};
  ASSERT_TRUE(file->WriteAt(kIoAlignment, pieces).ok());
  std::vector<uint8_t> expected;
  for (const ByteSpan& piece : pieces) expected.insert(expected.end(), piece.begin(), piece.end());
  AlignedBuffer read(303 * kIoAlignment);
  ASSERT_EQ(*file->ReadAt(kIoAlignment, read.span()), expected.size());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), read.span().begin()));
  const std::vector<ByteSpan> many(40, third.span());
  ASSERT_TRUE(file->WriteAt(0, many).ok());
  EXPECT_EQ(*file->ReadAt(39 * kIoAlignment, read.span().first(kIoAlignment)), kIoAlignment);
  EXPECT_TRUE(std::equal(third.span().begin(), third.span().end(), read.span().begin()));
}

TEST_P(PosixFileSystemTest, QueuesFinishReadsInTheOrderSubmitted) {
  const auto file = Create("f");
  constexpr size_t kPieces = 20;
  constexpr size_t kPieceBytes = 16 * kIoAlignment;
  const AlignedBuffer written = Filled(kPieces * kPieceBytes, 3);
  ASSERT_TRUE(file->WriteAt(0, written.span()).ok());
  AlignedBuffer read(kPieces * kPieceBytes + kPieceBytes);
  std::vector<size_t> got;
  {
    const auto queue = file->NewReadQueue();
    for (size_t i = 0; i <= kPieces; ++i) {
      while (queue->pending() >= queue->max_pending()) got.push_back(*queue->WaitOldest());
      // The last piece lies behind the end of the file.
      queue->Submit(i * kPieceBytes, read.span().subspan(i * kPieceBytes, kPieceBytes));
    }
    while (queue->pending() > 0) got.push_back(*queue->WaitOldest());
  }
  std::vector<size_t> expected(kPieces, kPieceBytes);
  expected.push_back(0);
  EXPECT_EQ(got, expected);
  EXPECT_TRUE(std::equal(written.span().begin(), written.span().end(), read.span().begin()));
  // A queue that is left with reads under way waits for them, and its ring is as good as new.
  for (int round = 0; round < 3; ++round) {
    const auto queue = file->NewReadQueue();
    queue->Submit(0, read.span().first(kPieceBytes));
    queue->Submit(kPieceBytes, read.span().subspan(kPieceBytes, kPieceBytes));
    EXPECT_EQ(*queue->WaitOldest(), kPieceBytes);
  }
}

TEST_P(PosixFileSystemTest, WritingWhereItIsNotAllowedIsAnError) {
  {
    const auto file = Create("f");
    ASSERT_TRUE(file->WriteAt(0, Filled(kIoAlignment, 1).span()).ok());
  }
  const auto read_only = file_system_.Open(PathOf("f"), OpenMode::kRead, GetParam());
  ASSERT_TRUE(read_only.ok());
  const AlignedBuffer bytes = Filled(kIoAlignment, 2);
  EXPECT_FALSE((*read_only)->WriteAt(0, bytes.span()).ok());
  const std::vector<ByteSpan> pieces = {bytes.span(), bytes.span()};
  EXPECT_FALSE((*read_only)->WriteAt(0, pieces).ok());
}

TEST_P(PosixFileSystemTest, AllocationTakesSpaceWithoutChangingTheSizeAndTruncationGivesItBack) {
  constexpr size_t kBytes = 1024 * kIoAlignment;
  const auto file = Create("f");
  const auto occupied = [&] {
    struct stat info {};
    EXPECT_EQ(::stat(PathOf("f").c_str(), &info), 0);
    return static_cast<uint64_t>(info.st_blocks) * 512;
  };
  const absl::Status allocated = file->Allocate(0, kBytes);
  if (absl::IsUnimplemented(allocated)) GTEST_SKIP() << allocated;
  ASSERT_TRUE(allocated.ok()) << allocated;
  EXPECT_EQ(*file->Size(), 0u);
  EXPECT_GE(occupied(), kBytes);
  ASSERT_TRUE(file->WriteAt(0, Filled(kIoAlignment, 1).span()).ok());
  ASSERT_TRUE(file->Truncate(kIoAlignment).ok());
  EXPECT_EQ(*file->Size(), kIoAlignment);
  EXPECT_LT(occupied(), kBytes);
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

TEST(BufferCacheTest, HandsOutWhatWasGivenBackAndRoundsUpByAnEighthAtMost) {
  BufferCache cache(64 * kIoAlignment);
  for (const size_t bytes : {size_t{0}, size_t{1}, kIoAlignment, 9 * kIoAlignment, 1000000 * size_t{7}}) {
    const auto buffer = cache.Take(bytes);
    EXPECT_GE(buffer->size(), bytes);
    EXPECT_LE(buffer->size(), bytes + std::max(kIoAlignment, bytes / 8));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % kIoAlignment, 0u);
  }
  auto first = cache.Take(20 * kIoAlignment);
  const uint8_t* kept = first->data();
  first = nullptr;
  EXPECT_EQ(cache.Take(20 * kIoAlignment - 5)->data(), kept);
}

TEST(BufferCacheTest, KeepsNoMoreThanItMayAndBuffersOutliveIt) {
  auto cache = std::make_unique<BufferCache>(4 * kIoAlignment);
  std::vector<std::shared_ptr<AlignedBuffer>> held;
  for (int i = 0; i < 10; ++i) held.push_back(cache->Take((1 + i % 3) * kIoAlignment));
  for (int i = 0; i < 9; ++i) held.erase(held.begin());
  cache = nullptr;
  held[0]->data()[0] = 1;
  EXPECT_EQ(held[0]->data()[0], 1);
}

}  // namespace
}  // namespace kdn
